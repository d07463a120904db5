// Rows are short (8 to a few hundred experts): one pass for the scores, k passes for the choice, no
// allocation.
#include <cmath>

#include "ops/moe/router.hpp"

namespace troupe::ops {
namespace {

void score_row(float* scores, const float* x, std::size_t experts, bool sigmoid) {
  if (sigmoid) {
    for (std::size_t e = 0; e < experts; ++e) scores[e] = 1 / (1 + std::exp(-x[e]));
    return;
  }
  float most = x[0];
  for (std::size_t e = 1; e < experts; ++e) most = x[e] > most ? x[e] : most;
  float sum = 0;
  for (std::size_t e = 0; e < experts; ++e) sum += scores[e] = std::exp(x[e] - most);
  for (std::size_t e = 0; e < experts; ++e) scores[e] /= sum;
}

// The greatest score not yet taken; taken ones are negative. NaN is never greater, so the choice stays in
// range.
std::int32_t take_best(float* scores, std::size_t experts, float& weight) {
  std::size_t best = 0;
  while (best + 1 < experts && scores[best] < 0) ++best;
  for (std::size_t e = best + 1; e < experts; ++e)
    if (scores[e] > scores[best]) best = e;
  weight = scores[best];
  scores[best] = -1;
  return static_cast<std::int32_t>(best);
}

// (Σ w^p)^(1/p)
float norm_of(const float* weights, std::size_t count, float power) {
  float sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += power == 1 ? weights[i] : std::pow(weights[i], power);
  return power == 1 ? sum : std::pow(sum, 1 / power);
}

}  // namespace

void router_cpu(execution& context, activations weights, indices experts, const_activations x,
                const router_rule& rule) {
  check_shape(weights, x.rows, rule.top_k);
  check_shape(experts, x.rows, rule.top_k);
  context.threads().parallel_for(x.rows, 64, [&](std::size_t first, std::size_t last, unsigned worker) {
    float* scores = context.own(worker).take<float>(x.width);
    for (std::size_t t = first; t < last; ++t) {
      score_row(scores, x.row(t), x.width, rule.sigmoid);
      float* chosen = weights.row(t);
      for (std::size_t i = 0; i < rule.top_k; ++i) experts.row(t)[i] = take_best(scores, x.width, chosen[i]);
      const float norm = rule.normalize ? norm_of(chosen, rule.top_k, rule.norm_power) : 1;
      for (std::size_t i = 0; i < rule.top_k; ++i) chosen[i] = chosen[i] / norm * rule.scale;
    }
  });
}

}  // namespace troupe::ops
