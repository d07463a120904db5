// rms_norm and layer_norm on a CUDA device; formulas in rms_norm.hpp and layer_norm.hpp. A row's sums are taken in an order that
// depends on its width alone. y may be x.
#pragma once

#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

// w [N] f32
void rms_norm_cuda(cudaStream_t stream, device_floats y, device_inputs x, const float* w, float eps);

// w, bias [N] f32; bias null = none
void layer_norm_cuda(cudaStream_t stream, device_floats y, device_inputs x, const float* w, const float* bias,
                     float eps);

// sum = a + b and y = norm(sum) in one launch, the same bits as in two. For rows that norm_of_sum_serves.
bool norm_of_sum_serves(std::size_t width);
void rms_norm_of_sum_cuda(cudaStream_t stream, device_floats y, device_floats sum, device_inputs a,
                          device_inputs b, const float* w, float eps);
void layer_norm_of_sum_cuda(cudaStream_t stream, device_floats y, device_floats sum, device_inputs a,
                            device_inputs b, const float* w, const float* bias, float eps);

}  // namespace troupe::ops
