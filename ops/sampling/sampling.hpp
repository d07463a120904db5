// Choosing the next token from one row of logits. Part of the step; deterministic in (logits, params,
// history, position).
//
// Order: logit bias, penalties (repetition as in CTRL, arXiv 1909.05858; presence and frequency as in
// OpenAI's API), banned ids, temperature, top-k, top-p (nucleus, arXiv 1904.09751), min-p (arXiv 2407.01082),
// draw. The draw is a counter-based random number of (seed, position): it depends on nothing else.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace troupe::ops {

// Neutral values switch a rule off. Ranges are checked where a request enters, not here.
struct sampling_params {
  float temperature = 1;    // 0 = greedy
  std::uint32_t top_k = 0;  // 0 = all
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::vector<std::pair<std::int32_t, float>> logit_bias;
  std::uint64_t seed = 0;
};

struct token_alternative {
  std::int32_t token = -1;
  float logprob = 0;
};

struct sampled_token {
  std::int32_t token = -1;
  float logprob = 0;  // natural log under the raw logits (before bias, penalties and temperature)
  std::vector<token_alternative> top;  // most likely first, lower id first among equals
  bool finite = true;  // false: nothing to choose (NaN, +inf, all -inf or banned); token is -1
};

}  // namespace troupe::ops
