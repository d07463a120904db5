// A weight on the device as the checkpoint stores it, read number by number.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <troupe/module.h>

#include <troupe/sdk/native_op.hpp>

namespace jamba {

// One plane. The array of planes stands on the device, so the pointer is read there.
struct stored_weight {
  const void* const* planes = nullptr;
  troupe_dtype dtype = TROUPE_NONE;

  explicit stored_weight(const troupe_weight& weight) : planes(weight.planes), dtype(weight.dtype) {}
  stored_weight() = default;

  __device__ float at(std::size_t i) const {
    if (dtype == TROUPE_F32) return static_cast<const float*>(planes[0])[i];
    if (dtype == TROUPE_BF16) return __bfloat162float(static_cast<const __nv_bfloat16*>(planes[0])[i]);
    return __half2float(static_cast<const __half*>(planes[0])[i]);
  }
};

// What the driver said to the launches so far; throws native_error.
inline void check_launches(const char* op) {
  if (const auto status = cudaGetLastError(); status != cudaSuccess)
    throw troupe::sdk::native_error(std::string(op) + ": " + cudaGetErrorString(status));
}

}  // namespace jamba
