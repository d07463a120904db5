// Rotary position embedding (arXiv 2104.09864).
//
//   angle(t, j) = position_t · frequency_j                     j < rotary/2, in f32 as Hugging Face computes it
//   frequency_j = theta^(-2j / rotary), or as the Program says (scaled for long contexts)
//   y [T, H·Dh]: of each head, the pair (a, b) becomes (a cos - b sin, b cos + a sin), cos and sin times an amplitude;
//     half: a = x[j], b = x[j + rotary/2]     interleaved: a = x[2j], b = x[2j + 1]
//   dimensions from `rotary` on are copied. y may be x.
#pragma once

#include <cstdint>
#include <span>

#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

struct rope_shape {
  std::size_t head_dim = 0;    // Dh
  std::size_t rotary_dim = 0;  // even, <= Dh
  bool interleaved = false;
};

// Cosines and sines of one step's positions, shared by all ops of equal frequencies and amplitude.
struct rope_table {
  const_activations cosines;  // [T, rotary/2]
  const_activations sines;    // [T, rotary/2]
};

// theta^(-2j / rotary) for j < rotary/2.
void rope_frequencies(std::span<float> frequencies, std::size_t rotary_dim, double theta);

// Fills a table; both [T, rotary/2].
void rope_angles(execution& context, activations cosines, activations sines,
                 std::span<const std::int32_t> positions, std::span<const float> frequencies,
                 float amplitude = 1);

void rope_ref(execution& context, activations y, const_activations x, const rope_table& table,
              const rope_shape& shape);
void rope_cpu(execution& context, activations y, const_activations x, const rope_table& table,
              const rope_shape& shape);

}  // namespace troupe::ops
