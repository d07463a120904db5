#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ops/moe/router.hpp"

namespace troupe::ops {
namespace {

std::vector<float> scores_of(const float* x, std::size_t experts, bool sigmoid) {
  std::vector<float> scores(x, x + experts);
  if (sigmoid) {
    for (float& score : scores) score = 1 / (1 + std::exp(-score));
    return scores;
  }
  const float most = *std::max_element(scores.begin(), scores.end());
  float sum = 0;
  for (float& score : scores) sum += score = std::exp(score - most);
  for (float& score : scores) score /= sum;
  return scores;
}

}  // namespace

void router_ref(execution&, activations weights, indices experts, const_activations x,
                const router_rule& rule) {
  check_shape(weights, x.rows, rule.top_k);
  check_shape(experts, x.rows, rule.top_k);
  for (std::size_t t = 0; t < x.rows; ++t) {
    const auto scores = scores_of(x.row(t), x.width, rule.sigmoid);
    std::vector<std::int32_t> order(x.width);
    std::iota(order.begin(), order.end(), 0);
    // Not a number ranks last.
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
      return scores[a] > scores[b] || (std::isnan(scores[b]) && !std::isnan(scores[a]));
    });
    float sum = 0;
    for (std::size_t i = 0; i < rule.top_k; ++i) sum += std::pow(scores[order[i]], rule.norm_power);
    const float norm = rule.normalize ? std::pow(sum, 1 / rule.norm_power) : 1;
    for (std::size_t i = 0; i < rule.top_k; ++i) {
      experts.row(t)[i] = order[i];
      weights.row(t)[i] = scores[order[i]] / norm * rule.scale;
    }
  }
}

}  // namespace troupe::ops
