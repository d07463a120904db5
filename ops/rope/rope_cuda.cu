#include "ops/device/cuda_launch.cuh"
#include "ops/rope/rope_cuda.hpp"

namespace troupe::ops {
namespace {

constexpr unsigned threads = 128;

__global__ void angles(float* cosines, float* sines, const std::int32_t* positions, const float* frequencies,
                       float amplitude, unsigned pairs, std::size_t count) {
  cuda::wait_for_inputs();
  const std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= count) return;
  const float angle = static_cast<float>(positions[i / pairs]) * frequencies[i % pairs];
  cosines[i] = cosf(angle) * amplitude;
  sines[i] = sinf(angle) * amplitude;
}

// A thread for each pair of a head, then one for each dimension that does not rotate.
__global__ void rotate(float* y, const float* x, const float* cosines, const float* sines, unsigned width,
                       unsigned head_dim, unsigned pairs, bool interleaved) {
  cuda::wait_for_inputs();
  const unsigned per_head = head_dim - pairs;
  const unsigned i = blockIdx.x * threads + threadIdx.x;
  if (i >= width / head_dim * per_head) return;
  const unsigned j = i % per_head;
  const std::size_t head = std::size_t{blockIdx.y} * width + i / per_head * head_dim;
  if (j >= pairs) {
    y[head + pairs + j] = x[head + pairs + j];
    return;
  }
  const unsigned first = interleaved ? 2 * j : j, second = interleaved ? 2 * j + 1 : j + pairs;
  const float c = cosines[blockIdx.y * pairs + j], s = sines[blockIdx.y * pairs + j];
  const float a = x[head + first], b = x[head + second];
  y[head + first] = a * c - b * s;
  y[head + second] = b * c + a * s;
}

}  // namespace

void rope_angles_cuda(cudaStream_t stream, device_floats cosines, device_floats sines,
                      const std::int32_t* positions, const float* frequencies, float amplitude) {
  const std::size_t count = cosines.rows * cosines.width;
  if (count == 0) return;
  cuda::launch_behind(angles, static_cast<unsigned>((count + threads - 1) / threads), threads, 0, stream,
                      cosines.data, sines.data, positions, frequencies, amplitude,
                      static_cast<unsigned>(cosines.width), count);
}

void rope_cuda(cudaStream_t stream, device_floats y, device_inputs x, device_inputs cosines,
               device_inputs sines, std::size_t head_dim, bool interleaved) {
  if (x.rows == 0) return;
  const std::size_t items = x.width / head_dim * (head_dim - cosines.width);
  const dim3 grid(static_cast<unsigned>((items + threads - 1) / threads), static_cast<unsigned>(x.rows));
  cuda::launch_behind(rotate, grid, threads, 0, stream, y.data, x.data, cosines.data, sines.data,
                      static_cast<unsigned>(x.width), static_cast<unsigned>(head_dim),
                      static_cast<unsigned>(cosines.width), interleaved);
}

}  // namespace troupe::ops
