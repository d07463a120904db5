// Small device functions that kernels of several families use.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "ops/activation/activation_kind.hpp"

namespace troupe::ops::cuda {

constexpr int warp_size = 32;
constexpr unsigned all_lanes = 0xffffffffu;

__device__ inline float round_to_bf16(float x) {
  return __bfloat162float(__float2bfloat16(x));
}

// The two bf16 numbers of a word, the lower one first.
__device__ inline float low_bf16(std::uint32_t word) {
  return __uint_as_float(word << 16);
}
__device__ inline float high_bf16(std::uint32_t word) {
  return __uint_as_float(word & 0xffff0000u);
}

// Sum over the warp, the same in all lanes: one fixed tree.
__device__ inline float warp_sum(float x) {
  for (int step = warp_size / 2; step > 0; step /= 2) x += __shfl_xor_sync(all_lanes, x, step);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int step = warp_size / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(all_lanes, x, step));
  return x;
}

// Sum over a block of at most 1024 threads, the same in all of them. `shared`: 32 floats.
__device__ inline float block_sum(float x, float* shared) {
  const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  const int warps = (blockDim.x + warp_size - 1) / warp_size;
  x = warp_sum(x);
  __syncthreads();
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? shared[lane] : 0.0f);
}

__device__ inline float activate(activation act, float x) {
  switch (act) {
    case activation::silu:
      return x / (1.0f + expf(-x));
    case activation::gelu:
      return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case activation::gelu_tanh:
      return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case activation::relu:
      break;
  }
  return x < 0.0f ? 0.0f : x;
}

// Weights are read once: past the first cache, and first to go from the second.
__device__ inline uint4 load_once(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

}  // namespace troupe::ops::cuda
