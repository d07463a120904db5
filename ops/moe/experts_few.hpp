// Experts of a few rows: kernels that read each chosen expert once for all its rows, at the speed of the memory.
#pragma once

#include "ops/moe/experts_cuda.hpp"

namespace troupe::ops {

constexpr std::size_t few_pairs = 256;  // rows · k at most

// At most few_rows rows. hidden [P, F]. Each block finds out by itself which rows go to which expert.
void experts_few(cudaStream_t stream, device_floats y, device_inputs x, const float* weights,
                 device_rows<const std::int32_t> experts, const device_experts& mlp, __nv_bfloat16* hidden,
                 const device_limits& limits);

}  // namespace troupe::ops
