// The CPU backend. Programs on the outside open it as a library (ops/device/open_backend.hpp); tests may link
// it.
#pragma once

#include <memory>

#include "ops/device/backend.hpp"

namespace troupe::ops::cpu {

// Error: bad_config (no address space for the cache).
result<std::unique_ptr<backend>> open(const backend_options& options);

}  // namespace troupe::ops::cpu
