#include "ops/activation/activation_cuda.hpp"
#include "ops/device/cuda_launch.cuh"
#include "ops/device/cuda_math.cuh"

namespace troupe::ops {
namespace {

constexpr unsigned threads = 256;

__global__ void activate_each(float* y, const float* x, const float* factor, std::size_t count,
                              activation act) {
  cuda::wait_for_inputs();
  const std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= count) return;
  const float value = cuda::activate(act, x[i]);
  y[i] = factor == nullptr ? value : value * factor[i];
}

}  // namespace

void activation_cuda(cudaStream_t stream, device_floats y, device_inputs x, device_inputs factor,
                     activation act) {
  const std::size_t count = y.rows * y.width;
  if (count == 0) return;
  cuda::launch_behind(activate_each, static_cast<unsigned>((count + threads - 1) / threads), threads, 0,
                      stream, y.data, x.data, factor.data, count, act);
}

}  // namespace troupe::ops
