#include "ops/sampling/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/sampling/philox.hpp"
#include "ops/sampling/row_scan.hpp"

namespace troupe::ops {
namespace {

constexpr float lowest = -std::numeric_limits<float>::infinity();

bool within(std::int32_t token, std::size_t vocabulary) {
  return token >= 0 && static_cast<std::size_t>(token) < vocabulary;
}

bool has_penalties(const sampling_params& params) {
  return params.repetition_penalty != 1 || params.presence_penalty != 0 || params.frequency_penalty != 0;
}

const sampled_token not_finite{-1, 0, {}, false};

}  // namespace

sampled_token sampler::sample(std::span<const float> logits, const sampling_params& params,
                              const sampling_context& context) {
  const row_peak raw = find_peak_cpu(logits);
  if (!raw.finite) return not_finite;
  const auto adjusted = adjust(logits, params, context);
  const row_peak peak = adjusted.data() == logits.data() ? raw : find_peak_cpu(adjusted);
  if (!peak.finite) return not_finite;

  sampled_token result;
  result.token = params.temperature == 0 || params.top_k == 1
                     ? peak.token
                     : draw(adjusted, peak.logit, params, context.position);
  if (context.top_logprobs >= 0) {
    add_logprobs(logits, raw.logit, static_cast<std::size_t>(context.top_logprobs), result);
  }
  return result;
}

sampled_token sampler::score(std::span<const float> logits, std::int32_t token, std::uint32_t top_logprobs) {
  const row_peak raw = find_peak_cpu(logits);
  if (!raw.finite) return not_finite;
  sampled_token result;
  result.token = token;
  add_logprobs(logits, raw.logit, top_logprobs, result);
  return result;
}

// The row after bias, penalties and bans: `logits` itself when there are none.
std::span<const float> sampler::adjust(std::span<const float> logits, const sampling_params& params,
                                       const sampling_context& context) {
  if (params.logit_bias.empty() && !has_penalties(params) && context.banned.empty()) return logits;
  adjusted_.assign(logits.begin(), logits.end());
  for (const auto& [token, bias] : params.logit_bias) {
    if (within(token, adjusted_.size())) adjusted_[token] += bias;
  }
  if (has_penalties(params)) penalize(params, context);
  for (const std::int32_t token : context.banned) {
    if (within(token, adjusted_.size())) adjusted_[token] = lowest;
  }
  return adjusted_;
}

// Repetition counts the whole history, presence and frequency what was generated.
void sampler::penalize(const sampling_params& params, const sampling_context& context) {
  occurrences_.resize(adjusted_.size());
  seen_.resize(adjusted_.size());
  for (std::size_t i = context.prompt_tokens; i < context.history.size(); ++i) {
    if (within(context.history[i], adjusted_.size())) ++occurrences_[context.history[i]];
  }
  for (const std::int32_t token : context.history) {
    if (!within(token, adjusted_.size()) || seen_[token] != 0) continue;
    seen_[token] = 1;
    float& logit = adjusted_[token];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (occurrences_[token] == 0) continue;
    logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(occurrences_[token]);
  }
  for (const std::int32_t token : context.history) {
    if (!within(token, adjusted_.size())) continue;
    seen_[token] = 0;
    occurrences_[token] = 0;
  }
}

// Temperature, top-k, top-p and min-p on a row whose greatest element is `peak`, then the draw.
std::int32_t sampler::draw(std::span<const float> logits, float peak, const sampling_params& params,
                           std::uint64_t position) {
  weights_.resize(logits.size());
  const float scale = std::min(1 / params.temperature, std::numeric_limits<float>::max());
  double total = exp_row_cpu(logits, peak, scale, weights_);
  kept_.clear();
  bool all = true;
  if (params.top_k != 0 && params.top_k < logits.size()) {
    keep_top(weights_, params.top_k);
    total = 0;
    for (const auto& one : kept_) total += one.value;
    all = false;
  }
  if (params.top_p < 1) {
    keep_top_p(weights_, params.top_p, total);
    all = false;
  }
  const float least = params.min_p > 0 ? params.min_p : 0;  // the likeliest token weighs 1
  if (all) {
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      if (weights_[i] > 0 && weights_[i] >= least)
        kept_.push_back({weights_[i], static_cast<std::int32_t>(i)});
    }
  } else {
    std::erase_if(kept_, [&](const candidate& one) { return one.value <= 0 || one.value < least; });
    std::sort(kept_.begin(), kept_.end(),
              [](const candidate& a, const candidate& b) { return a.token < b.token; });
  }

  total = 0;
  for (const auto& one : kept_) total += one.value;
  double target = uniform(params.seed, position) * total;
  for (const auto& one : kept_) {
    target -= one.value;
    if (target < 0) return one.token;
  }
  return kept_.back().token;  // rounding
}

// kept_ becomes the `count` likeliest, in no order.
void sampler::keep_top(std::span<const float> values, std::size_t count) {
  kept_.clear();
  count = std::min(count, values.size());
  if (count == 0) return;
  if (count > values.size() / 8) {
    for (std::size_t i = 0; i < values.size(); ++i)
      kept_.push_back({values[i], static_cast<std::int32_t>(i)});
    std::nth_element(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(count) - 1, kept_.end(),
                     likelier);
    kept_.resize(count);
    return;
  }
  // A heap with the least likely on top: most elements fail the one comparison. Ids ascend, so an equal comes
  // too late.
  for (std::size_t i = 0; i < count; ++i) kept_.push_back({values[i], static_cast<std::int32_t>(i)});
  std::make_heap(kept_.begin(), kept_.end(), likelier);
  for (std::size_t i = count; i < values.size(); ++i) {
    if (values[i] <= kept_.front().value) continue;
    std::pop_heap(kept_.begin(), kept_.end(), likelier);
    kept_.back() = {values[i], static_cast<std::int32_t>(i)};
    std::push_heap(kept_.begin(), kept_.end(), likelier);
  }
}

// kept_ becomes the smallest set of likeliest tokens whose weight reaches top_p of `total`: at least one.
// kept_ holds what top-k left, or nothing if there was no top-k.
void sampler::keep_top_p(std::span<const float> weights, float top_p, double total) {
  const bool preselected = !kept_.empty();
  for (std::size_t count = 64;; count *= 4) {
    if (!preselected) keep_top(weights, count);
    std::sort(kept_.begin(), kept_.end(), likelier);
    double sum = 0;
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      sum += kept_[i].value;
      if (sum >= static_cast<double>(top_p) * total) {
        kept_.resize(i + 1);
        return;
      }
    }
    if (preselected || kept_.size() == weights.size()) return;
  }
}

void sampler::add_logprobs(std::span<const float> logits, float peak, std::size_t top,
                           sampled_token& result) {
  const double normalizer = peak + std::log(exp_row_cpu(logits, peak, 1, {}));
  const auto logprob = [&](float logit) { return static_cast<float>(logit - normalizer); };
  result.logprob = logprob(logits[result.token]);
  keep_top(logits, top);
  std::sort(kept_.begin(), kept_.end(), likelier);
  for (const auto& one : kept_) result.top.push_back({one.token, logprob(one.value)});
}

}  // namespace troupe::ops
