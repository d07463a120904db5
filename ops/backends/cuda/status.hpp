// Answers of the CUDA runtime and driver as errors.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "kernel/base/result.hpp"

namespace troupe::ops::cuda {

// Whether the device's context is lost with this error: every later call of the process fails, whatever it does.
inline bool loses_context(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorDevicesUnavailable:
      return true;
    default:
      return false;
  }
}

// `what`: the call and what for: "cudaMalloc of the arena".
inline result<void> ok(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return {};
  return fail(status == cudaErrorMemoryAllocation ? error_code::bad_config : error_code::internal,
              "CUDA: {}: {} ({}){}", what, cudaGetErrorString(status), cudaGetErrorName(status),
              loses_context(status) ? "; this process cannot use the device again: restart the server" : "");
}

}  // namespace troupe::ops::cuda
