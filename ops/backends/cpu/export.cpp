// What libtroupe-cpu.so shows to the outside: see ops/device/open_backend.hpp.
#include <boost/dll/alias.hpp>

#include "ops/backends/cpu/cpu_backend.hpp"

BOOST_DLL_ALIAS(troupe::ops::cpu::open, troupe_open_backend)
