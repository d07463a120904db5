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

// What a norm reads: x, or x + other, which is then written to `sum` as well. Rows of whole float4s.
struct norm_input {
  const float4* x;
  const float4* other;  // null = x alone
  float4* sum;
};

// A thread's part of a row, at most `Own` float4s, which it keeps between the sums and the product.
template <int Own>
__device__ void keep_row(float4 (&kept)[Own], const norm_input& in, unsigned quads) {
  const std::size_t row = std::size_t{blockIdx.x} * quads;
#pragma unroll
  for (int k = 0; k < Own; ++k) {
    const unsigned at = threadIdx.x + k * blockDim.x;
    kept[k] = at < quads ? in.x[row + at] : float4{0, 0, 0, 0};
  }
  if (in.other == nullptr) return;
#pragma unroll
  for (int k = 0; k < Own; ++k) {
    const unsigned at = threadIdx.x + k * blockDim.x;
    if (at >= quads) continue;
    const float4 v = in.other[row + at];
    kept[k] = {kept[k].x + v.x, kept[k].y + v.y, kept[k].z + v.z, kept[k].w + v.w};
    in.sum[row + at] = kept[k];
  }
}

template <int Own>
__global__ void __launch_bounds__(512)
    rms_norm_quads(float4* y, const norm_input in, const float4* w, unsigned quads, float eps) {
  __shared__ float shared[32];
  cuda::wait_for_inputs();
  float4 kept[Own];
  float squares = 0;
  keep_row(kept, in, quads);
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

template <int Own>
__global__ void __launch_bounds__(512) layer_norm_quads(float4* y, const norm_input in, const float4* w,
                                                        const float4* bias, unsigned quads, float eps) {
  __shared__ float shared[32];
  cuda::wait_for_inputs();
  const float width = 4.0f * static_cast<float>(quads);
  float4 kept[Own];
  float sum = 0, squares = 0;
  keep_row(kept, in, quads);
#pragma unroll
  for (int k = 0; k < Own; ++k) sum += kept[k].x + kept[k].y + kept[k].z + kept[k].w;
  const float mean = cuda::block_sum(sum, shared) / width;
#pragma unroll
  for (int k = 0; k < Own; ++k) {
    if (threadIdx.x + k * blockDim.x >= quads) continue;
    kept[k] = {kept[k].x - mean, kept[k].y - mean, kept[k].z - mean, kept[k].w - mean};
    squares += kept[k].x * kept[k].x + kept[k].y * kept[k].y + kept[k].z * kept[k].z + kept[k].w * kept[k].w;
  }
  const float scale = 1.0f / sqrtf(cuda::block_sum(squares, shared) / width + eps);
#pragma unroll
  for (int k = 0; k < Own; ++k) {
    const unsigned at = threadIdx.x + k * blockDim.x;
    if (at >= quads) continue;
    const float4 by = w[at], plus = bias == nullptr ? float4{0, 0, 0, 0} : bias[at];
    y[std::size_t{blockIdx.x} * quads + at] = {
        by.x * (kept[k].x * scale) + plus.x, by.y * (kept[k].y * scale) + plus.y,
        by.z * (kept[k].z * scale) + plus.z, by.w * (kept[k].w * scale) + plus.w};
  }
}

constexpr int own_quads = 4;

// Threads for rows that threads keep; 0 = they do not.
unsigned keeping_threads(std::size_t width) {
  const std::size_t quads = width / 4;
  if (width % 4 != 0 || quads > std::size_t{512} * own_quads) return 0;
  return quads <= 32 ? 32 : quads <= 128 ? 128 : 512;
}

const float4* quads_of(const float* p) {
  return reinterpret_cast<const float4*>(p);
}
float4* quads_of(float* p) {
  return reinterpret_cast<float4*>(p);
}

void rms_norm_kept(cudaStream_t stream, device_floats y, const norm_input& in, const float* w, float eps,
                   unsigned threads) {
  cuda::launch_behind(rms_norm_quads<own_quads>, static_cast<unsigned>(y.rows), threads, 0, stream,
                      quads_of(y.data), in, quads_of(w), static_cast<unsigned>(y.width / 4), eps);
}
void layer_norm_kept(cudaStream_t stream, device_floats y, const norm_input& in, const float* w,
                     const float* bias, float eps, unsigned threads) {
  cuda::launch_behind(layer_norm_quads<own_quads>, static_cast<unsigned>(y.rows), threads, 0, stream,
                      quads_of(y.data), in, quads_of(w), quads_of(bias), static_cast<unsigned>(y.width / 4),
                      eps);
}

}  // namespace

void rms_norm_cuda(cudaStream_t stream, device_floats y, device_inputs x, const float* w, float eps) {
  if (x.rows == 0) return;
  if (const unsigned threads = keeping_threads(x.width); threads != 0)
    return rms_norm_kept(stream, y, {quads_of(x.data), nullptr, nullptr}, w, eps, threads);
  cuda::launch_behind(rms_norm_rows, static_cast<unsigned>(x.rows), threads_for(x.width), 0, stream, y.data,
                      x.data, w, static_cast<unsigned>(x.width), eps);
}

void layer_norm_cuda(cudaStream_t stream, device_floats y, device_inputs x, const float* w, const float* bias,
                     float eps) {
  if (x.rows == 0) return;
  if (const unsigned threads = keeping_threads(x.width); threads != 0)
    return layer_norm_kept(stream, y, {quads_of(x.data), nullptr, nullptr}, w, bias, eps, threads);
  cuda::launch_behind(layer_norm_rows, static_cast<unsigned>(x.rows), threads_for(x.width), 0, stream, y.data,
                      x.data, w, bias, static_cast<unsigned>(x.width), eps);
}

bool norm_of_sum_serves(std::size_t width) {
  return keeping_threads(width) != 0;
}

void rms_norm_of_sum_cuda(cudaStream_t stream, device_floats y, device_floats sum, device_inputs a,
                          device_inputs b, const float* w, float eps) {
  if (a.rows > 0)
    rms_norm_kept(stream, y, {quads_of(a.data), quads_of(b.data), quads_of(sum.data)}, w, eps,
                  keeping_threads(a.width));
}

void layer_norm_of_sum_cuda(cudaStream_t stream, device_floats y, device_floats sum, device_inputs a,
                            device_inputs b, const float* w, const float* bias, float eps) {
  if (a.rows > 0)
    layer_norm_kept(stream, y, {quads_of(a.data), quads_of(b.data), quads_of(sum.data)}, w, bias, eps,
                    keeping_threads(a.width));
}

}  // namespace troupe::ops
