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
  const float* from = x + std::size_t{blockIdx.x} * width;
  float* to = y + std::size_t{blockIdx.x} * width;
  float squares = 0;
  for (unsigned n = threadIdx.x; n < width; n += blockDim.x) squares += from[n] * from[n];
  const float scale = 1.0f / sqrtf(cuda::block_sum(squares, shared) / static_cast<float>(width) + eps);
  for (unsigned n = threadIdx.x; n < width; n += blockDim.x) to[n] = w[n] * (from[n] * scale);
}

__global__ void layer_norm_rows(float* y, const float* x, const float* w, const float* bias, unsigned width,
                                float eps) {
  __shared__ float shared[32];
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
  rms_norm_rows<<<static_cast<unsigned>(x.rows), threads_for(x.width), 0, stream>>>(
      y.data, x.data, w, static_cast<unsigned>(x.width), eps);
}

void layer_norm_cuda(cudaStream_t stream, device_floats y, device_inputs x, const float* w, const float* bias,
                     float eps) {
  if (x.rows == 0) return;
  layer_norm_rows<<<static_cast<unsigned>(x.rows), threads_for(x.width), 0, stream>>>(
      y.data, x.data, w, bias, static_cast<unsigned>(x.width), eps);
}

}  // namespace troupe::ops
