#include "ops/device/cuda_launch.cuh"
#include "ops/elementwise/elementwise_cuda.hpp"

namespace troupe::ops {
namespace {

constexpr unsigned threads = 256;

unsigned blocks_for(std::size_t count) {
  return static_cast<unsigned>((count + threads - 1) / threads);
}

template <class Operation>
__global__ void each(float* y, const float* a, const float* b, std::size_t count, Operation operation) {
  cuda::wait_for_inputs();
  const std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x;
  if (i < count) y[i] = operation(a[i], b[i]);
}

struct sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct product {
  __device__ float operator()(float a, float b) const { return a * b; }
};
struct bounds {
  float min, max;
  __device__ float operator()(float x, float) const { return x < min ? min : x > max ? max : x; }
};

template <class Operation>
void run(cudaStream_t stream, device_floats y, const float* a, const float* b, Operation operation) {
  const std::size_t count = y.rows * y.width;
  if (count > 0)
    cuda::launch_behind(each<Operation>, blocks_for(count), threads, 0, stream, y.data, a, b, count,
                        operation);
}

}  // namespace

void add_cuda(cudaStream_t stream, device_floats y, device_inputs a, device_inputs b) {
  run(stream, y, a.data, b.data, sum{});
}
void mul_cuda(cudaStream_t stream, device_floats y, device_inputs a, device_inputs b) {
  run(stream, y, a.data, b.data, product{});
}
void clamp_cuda(cudaStream_t stream, device_floats y, device_inputs x, float min, float max) {
  run(stream, y, x.data, x.data, bounds{min, max});
}

}  // namespace troupe::ops
