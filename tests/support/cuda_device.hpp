// Whether tests have a CUDA device.
#pragma once

#include <string>

#include "kernel/config/paths.hpp"
#include "ops/device/open_backend.hpp"

namespace troupe::test {

// Why there is none; empty = there is one.
inline const std::string& no_cuda_device() {
  static const std::string why = [] {
    const auto opened =
        ops::open_backend(config::install_at(TROUPE_BINARY_DIR).backend("cuda"), {1, false, 1, 1 << 16});
    return opened ? std::string() : opened.error().text;
  }();
  return why;
}

}  // namespace troupe::test
