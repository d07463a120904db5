#include "ops/device/cuda_launch.cuh"
#include "ops/device/cuda_math.cuh"
#include "ops/norm/norm_cuda.hpp"

namespace troupe::ops {
namespace {

// Threads that share a row: a function of its width alone, so that its sums are.
unsigned threads_for(std::size_t width) {
  unsigned threads = 32;
  while (threads < 512 && threads * 8 < width) threads *= 2;
  return threads;
}

__global__ void rms_norm_rows(float* y, const float* x, const float* w, unsigned width, float eps) {
  __shared__ float shared[32];
  cuda::wait_for_inputs();
  const float* from = x + std::size_t{blockIdx.x} * width;
  float* to = y + std::size_t{blockIdx.x} * width;
  float squares = 0;
  for (unsigned n = threadIdx.x; n < width; n += blockDim.x) squares += from[n] * from[n];
  const float scale = 1.0f / sqrtf(cuda::block_sum(squares, shared) / static_cast<float>(width) + eps);
  for (unsigned n = threadIdx.x; n < width; n += blockDim.x) to[n] = w[n] * (from[n] * scale);
}

// The same for rows of whole float4s, at most `Own` of them for each thread, which keeps them between the sum and the product.
template <int Own>
__global__ void __launch_bounds__(512)
    rms_norm_quads(float4* y, const float4* x, const float4* w, unsigned quads, float eps) {
  __shared__ float shared[32];
  cuda::wait_for_inputs();
  const float4* from = x + std::size_t{blockIdx.x} * quads;
  float4 kept[Own];
  float squares = 0;
#pragma unroll
  for (int k = 0; k < Own; ++k) {
    const unsigned at = threadIdx.x + k * blockDim.x;
    kept[k] = at < quads ? from[at] : float4{0, 0, 0, 0};
  }
#pragma unroll
  for (int k = 0; k < Own; ++k)
    squares += kept[k].x * kept[k].x + kept[k].y * kept[k].y + kept[k].z * kept[k].z + kept[k].w * kept[k].w;
  const float scale =
      1.0f / sqrtf(cuda::block_sum(squares, shared) / (4.0f * static_cast<float>(quads)) + eps);
#pragma unroll
  for (int k = 0; k < Own; ++k) {
    const unsigned at = threadIdx.x + k * blockDim.x;
    if (at >= quads) continue;
    const float4 by = w[at];
    y[std::size_t{blockIdx.x} * quads + at] = {by.x * (kept[k].x * scale), by.y * (kept[k].y * scale),
                                               by.z * (kept[k].z * scale), by.w * (kept[k].w * scale)};
  }
}

__global__ void layer_norm_rows(float* y, const float* x, const float* w, const float* bias, unsigned width,
                                float eps) {
  __shared__ float shared[32];
  cuda::wait_for_inputs();
  const float* from = x + std::size_t{blockIdx.x} * width;
  float* to = y + std::size_t{blockIdx.x} * width;
  float sum = 0;
  for (unsigned n = threadIdx.x; n < width; n += blockDim.x) sum += from[n];
  const float mean = cuda::block_sum(sum, shared) / static_cast<float>(width);
  float squares = 0;
  for (unsigned n = threadIdx.x; n < width; n += blockDim.x) squares += (from[n] - mean) * (from[n] - mean);
  const float scale = 1.0f / sqrtf(cuda::block_sum(squares, shared) / static_cast<float>(width) + eps);
  for (unsigned n = threadIdx.x; n < width; n += blockDim.x) {
    const float value = w[n] * ((from[n] - mean) * scale);
    to[n] = bias == nullptr ? value : value + bias[n];
  }
}

}  // namespace

void rms_norm_cuda(cudaStream_t stream, device_floats y, device_inputs x, const float* w, float eps) {
  if (x.rows == 0) return;
  const auto quads = static_cast<unsigned>(x.width / 4);
  constexpr int own = 4;
  if (x.width % 4 == 0 && quads <= 512 * own) {
    const unsigned threads = quads <= 32 ? 32 : quads <= 128 ? 128 : 512;
    cuda::launch_behind(rms_norm_quads<own>, static_cast<unsigned>(x.rows), threads, 0, stream,
                        reinterpret_cast<float4*>(y.data), reinterpret_cast<const float4*>(x.data),
                        reinterpret_cast<const float4*>(w), quads, eps);
    return;
  }
  cuda::launch_behind(rms_norm_rows, static_cast<unsigned>(x.rows), threads_for(x.width), 0, stream, y.data,
                      x.data, w, static_cast<unsigned>(x.width), eps);
}

void layer_norm_cuda(cudaStream_t stream, device_floats y, device_inputs x, const float* w, const float* bias,
                     float eps) {
  if (x.rows == 0) return;
  cuda::launch_behind(layer_norm_rows, static_cast<unsigned>(x.rows), threads_for(x.width), 0, stream, y.data,
                      x.data, w, bias, static_cast<unsigned>(x.width), eps);
}

}  // namespace troupe::ops
