// Chooses k of E experts for each row.
//
//   x [T, E] router logits -> weights [T, k] f32, experts [T, k] i32, the likeliest first
//   score: softmax over all E, or sigmoid, in f32; the k greatest scores are chosen, lower index first among equals
//   then, if asked, the chosen scores s are divided by (Σ s^p)^(1/p), and multiplied by a scale
#pragma once

#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

struct router_rule {
  std::size_t top_k = 1;  // k <= E
  bool sigmoid = false;   // else softmax
  bool normalize = false;
  float norm_power = 1;  // p > 0; 1 = the sum
  float scale = 1;
};

void router_ref(execution& context, activations weights, indices experts, const_activations x,
                const router_rule& rule);
void router_cpu(execution& context, activations weights, indices experts, const_activations x,
                const router_rule& rule);

}  // namespace troupe::ops
