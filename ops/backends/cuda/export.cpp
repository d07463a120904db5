// What libtroupe-cuda.so shows to the outside: see ops/device/open_backend.hpp.
#include <boost/dll/alias.hpp>

#include "ops/backends/cuda/cuda_backend.hpp"

BOOST_DLL_ALIAS(troupe::ops::cuda::open, troupe_open_backend)
