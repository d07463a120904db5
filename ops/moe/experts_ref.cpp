#include <algorithm>
#include <vector>

#include "ops/moe/experts.hpp"

namespace troupe::ops {
namespace {

float dot(const weight_matrix& w, std::size_t row, const float* x) {
  float sum = 0;
  for (std::size_t n = 0; n < w.columns; ++n) sum += load_element(w.dtype, w.row(row), n) * x[n];
  return sum;
}

}  // namespace

void experts_ref(execution&, activations y, const_activations x, const_activations weights,
                 const_indices experts, const expert_weights& mlp) {
  check_shape(y, x.rows, x.width);
  check_shape(weights, x.rows, experts.width);
  for (std::size_t t = 0; t < x.rows; ++t) {
    std::vector<std::pair<std::int32_t, float>> chosen;
    for (std::size_t i = 0; i < experts.width; ++i) chosen.emplace_back(experts.row(t)[i], weights.row(t)[i]);
    std::sort(chosen.begin(), chosen.end());
    std::fill(y.row(t), y.row(t) + y.width, 0.0f);
    for (const auto& [expert, weight] : chosen) {
      const auto& gate = mlp.gate[expert];
      std::vector<float> hidden(gate.rows);
      for (std::size_t f = 0; f < gate.rows; ++f) {
        hidden[f] = activated(mlp.act, dot(gate, f, x.row(t))) * dot(mlp.up[expert], f, x.row(t));
      }
      for (std::size_t d = 0; d < y.width; ++d)
        y.row(t)[d] += weight * dot(mlp.down[expert], d, hidden.data());
    }
  }
}

}  // namespace troupe::ops
