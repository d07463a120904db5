// What the device did and when: kernels and copies with their times, from CUPTI's activity records. CUPTI is opened at run time
// (libcupti.so.13); where it cannot be used there are no traces.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::bench {

struct activity {
  std::string name;                  // of a kernel, shortened; "copy to host", "copy to device", "fill"
  std::uint64_t begin = 0, end = 0;  // ns
  bool ends_step = false;            // a copy to the host
};

// Errors: not_found (no CUPTI), internal (it refuses).
result<void> start_trace();
// In the order of their beginning.
result<std::vector<activity>> stop_trace();

}  // namespace troupe::bench
