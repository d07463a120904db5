// y [T, N] = x / sqrt(mean(x²) + eps) · w        x [T, N] f32, w [N] bf16, f16 or f32
//
// All in f32; the mean is over the row. Rows do not influence each other. y may be x.
#pragma once

#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

void rms_norm_ref(execution& context, activations y, const_activations x, const weight_matrix& w, float eps);
void rms_norm_cpu(execution& context, activations y, const_activations x, const weight_matrix& w, float eps);

}  // namespace troupe::ops
