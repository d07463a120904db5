// y [T, D] = Σ over a row's chosen experts e, ascending: weight_e · down_e · (act(gate_e · x) * (up_e · x))
//
//   x [T, D]   weights [T, k] f32   experts [T, k] i32, distinct within a row, in [0, E)
//   gate, up: E matrices [F, D]     down: E matrices [D, F]     bf16, f16 or f32
//   act: see ops/activation/activation.hpp
//
// Dropless: each row meets exactly its k experts, however they are spread; only chosen experts are computed.
// A row's result does not depend on which rows share its experts.
#pragma once

#include <span>

#include "ops/activation/activation.hpp"
#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

struct expert_weights {
  std::span<const weight_matrix> gate;  // [E] of [F, D]
  std::span<const weight_matrix> up;    // [E] of [F, D]
  std::span<const weight_matrix> down;  // [E] of [D, F]
  activation act = activation::silu;
};

void experts_ref(execution& context, activations y, const_activations x, const_activations weights,
                 const_indices experts, const expert_weights& mlp);
void experts_cpu(execution& context, activations y, const_activations x, const_activations weights,
                 const_indices experts, const expert_weights& mlp);

}  // namespace troupe::ops
