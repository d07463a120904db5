// One simple operation per element; a, b, x, y [T, N] f32, and y may be any of the others.
//
//   add     y = a + b
//   mul     y = a · b
//   clamp   y = min if x < min, max if x > max, else x; a NaN stays one
#pragma once

#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

void add_ref(execution& context, activations y, const_activations a, const_activations b);
void add_cpu(execution& context, activations y, const_activations a, const_activations b);

void mul_ref(execution& context, activations y, const_activations a, const_activations b);
void mul_cpu(execution& context, activations y, const_activations a, const_activations b);

struct clamp_range {
  float min = 0;
  float max = 0;
};
void clamp_ref(execution& context, activations y, const_activations x, const clamp_range& range);
void clamp_cpu(execution& context, activations y, const_activations x, const clamp_range& range);

}  // namespace troupe::ops
