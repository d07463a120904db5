// The CUDA backend. Programs on the outside open it as a library (ops/device/open_backend.hpp); tests may link it.
#pragma once

#include <memory>

#include "ops/device/backend.hpp"

namespace troupe::ops::cuda {

// Errors: unsupported (no driver, no device, too old a one), not_found (cuBLASLt), bad_config (the cache does not fit; reference
// ops, which run on the CPU only).
result<std::unique_ptr<backend>> open(const backend_options& options);

}  // namespace troupe::ops::cuda
