// y [T, N] = act(x)   or   act(x) · factor          x, factor, y [T, N] f32; y may be x
//
//   silu(x) = x / (1 + e^-x)        gelu(x) = x/2 (1 + erf(x/√2))        relu(x) = max(x, 0)
//   gelu_tanh(x) = x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))
//
// The second form makes a gated layer, down(act(gate(x)) · up(x)), in one pass. Elements do not influence each other.
#pragma once

#include "ops/activation/activation_kind.hpp"
#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

// One element in plain arithmetic: the truth.
float activated(activation act, float x);

// factor.data null = none
void activation_ref(execution& context, activations y, const_activations x, const_activations factor,
                    activation act);
void activation_cpu(execution& context, activations y, const_activations x, const_activations factor,
                    activation act);

}  // namespace troupe::ops
