// add, mul, clamp on a CUDA device; see elementwise.hpp. y may be any of the others.
#pragma once

#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

void add_cuda(cudaStream_t stream, device_floats y, device_inputs a, device_inputs b);
void mul_cuda(cudaStream_t stream, device_floats y, device_inputs a, device_inputs b);
void clamp_cuda(cudaStream_t stream, device_floats y, device_inputs x, float min, float max);

}  // namespace troupe::ops
