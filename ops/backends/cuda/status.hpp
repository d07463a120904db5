// Answers of the CUDA runtime and driver as errors.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "kernel/base/result.hpp"

namespace troupe::ops::cuda {

// `what`: the call and what for: "cudaMalloc of the arena".
inline result<void> ok(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return {};
  return fail(status == cudaErrorMemoryAllocation ? error_code::bad_config : error_code::internal,
              "CUDA: {}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

}  // namespace troupe::ops::cuda
