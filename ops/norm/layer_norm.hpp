// y [T, N] = (x - m) / sqrt(v + eps) · w + bias      m = mean(x), v = mean((x - m)²)
//   x [T, N] f32; w, bias [N] bf16, f16 or f32; bias may be absent (data null)
//
// All in f32; mean and variance are over the row, the variance in a second pass. Rows do not influence each other.
// y may be x. (arXiv 1607.06450)
#pragma once

#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

struct layer_norm_weights {
  weight_matrix scale;  // w
  weight_matrix bias;   // data null = none
};

void layer_norm_ref(execution& context, activations y, const_activations x, const layer_norm_weights& w,
                    float eps);
void layer_norm_cpu(execution& context, activations y, const_activations x, const layer_norm_weights& w,
                    float eps);

}  // namespace troupe::ops
