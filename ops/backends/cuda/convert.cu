#include <cuda_fp16.h>

#include "ops/backends/cuda/convert.hpp"
#include "ops/device/cuda_math.cuh"

namespace troupe::ops::cuda {
namespace {

__device__ float value_of(const void* from, stored_as dtype, std::size_t i) {
  if (dtype == stored_as::f32) return static_cast<const float*>(from)[i];
  if (dtype == stored_as::bf16) return __bfloat162float(static_cast<const __nv_bfloat16*>(from)[i]);
  return __half2float(static_cast<const __half*>(from)[i]);
}

__global__ void round_each(__nv_bfloat16* to, const void* from, stored_as dtype, std::size_t count) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) to[i] = __float2bfloat16(value_of(from, dtype, i));
}

__global__ void widen_each(float* to, const void* from, stored_as dtype, std::size_t count) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) to[i] = value_of(from, dtype, i);
}

__global__ void quantize_rows(std::int8_t* to, float* scales, const void* from, stored_as dtype,
                              std::size_t columns) {
  __shared__ float shared[32];
  const std::size_t first = std::size_t{blockIdx.x} * columns;
  float most = 0;
  for (std::size_t i = threadIdx.x; i < columns; i += blockDim.x)
    most = fmaxf(most, fabsf(value_of(from, dtype, first + i)));
  most = warp_max(most);
  if (threadIdx.x % warp_size == 0) shared[threadIdx.x / warp_size] = most;
  __syncthreads();
  most = warp_max(threadIdx.x % warp_size < blockDim.x / warp_size ? shared[threadIdx.x % warp_size] : 0.0f);
  const float scale = most / 127.0f;
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
  for (std::size_t i = threadIdx.x; i < columns; i += blockDim.x) {
    const float number = scale > 0 ? rintf(value_of(from, dtype, first + i) / scale) : 0.0f;
    to[first + i] = static_cast<std::int8_t>(fminf(fmaxf(number, -127.0f), 127.0f));
  }
}

// A thread makes the four numbers of one group, as far as they are among [first, first + count).
__global__ void make_up_each(std::uint16_t* to, checkpoint::synthetic_numbers of, std::uint64_t key,
                             std::size_t first, std::size_t count) {
  const std::size_t group = first / 4 + std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (4 * group >= first + count) return;
  const std::uint64_t bits = checkpoint::synthetic_bits(key, group);
  std::uint16_t made[4];
  for (int i = 0; i < 4; ++i)
    made[i] = checkpoint::synthetic_bf16(of, static_cast<std::uint16_t>(bits >> (16 * i)));
  if (first % 4 == 0 && 4 * group + 4 <= first + count) {
    *reinterpret_cast<ushort4*>(to + (4 * group - first)) = {made[0], made[1], made[2], made[3]};
    return;
  }
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t at = 4 * group + i;
    if (at >= first && at < first + count) to[at - first] = made[i];
  }
}

unsigned blocks_for(std::size_t count) {
  return static_cast<unsigned>((count + 255) / 256);
}

}  // namespace

void to_bf16(cudaStream_t stream, __nv_bfloat16* to, const void* from, stored_as dtype, std::size_t count) {
  if (count > 0) round_each<<<blocks_for(count), 256, 0, stream>>>(to, from, dtype, count);
}

void to_f32(cudaStream_t stream, float* to, const void* from, stored_as dtype, std::size_t count) {
  if (count > 0) widen_each<<<blocks_for(count), 256, 0, stream>>>(to, from, dtype, count);
}

void make_up(cudaStream_t stream, __nv_bfloat16* to, const checkpoint::synthetic_numbers& of,
             std::size_t plane, std::size_t first, std::size_t count) {
  if (count == 0) return;
  const std::size_t groups = (first + count + 3) / 4 - first / 4;
  make_up_each<<<blocks_for(groups), 256, 0, stream>>>(reinterpret_cast<std::uint16_t*>(to), of,
                                                       of.key + plane, first, count);
}

void to_int8(cudaStream_t stream, std::int8_t* to, float* scales, const void* from, stored_as dtype,
             std::size_t rows, std::size_t columns) {
  if (rows > 0)
    quantize_rows<<<static_cast<unsigned>(rows), 256, 0, stream>>>(to, scales, from, dtype, columns);
}

}  // namespace troupe::ops::cuda
