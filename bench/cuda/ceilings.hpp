// What the device can do at most, measured: what shares are shares of.
#pragma once

#include <string>

#include "kernel/base/result.hpp"
#include "ops/backends/cuda/gemm.hpp"

namespace troupe::bench {

struct ceilings {
  std::string device;     // its name
  double reads = 0;       // R: bytes/s of a kernel that only reads, over 8 GiB
  double operations = 0;  // G: operations/s of cuBLASLt, bf16, 8192 x 8192 x 8192
};

// On the current device, which needs 9 GiB free for it. Error: internal (a call that failed).
result<ceilings> measure_ceilings(ops::cuda::gemm& products);

}  // namespace troupe::bench
