// The rules of sampling.hpp on one row of logits [V].
//
// A draw walks over the tokens that are left in the order of their ids, so that a rule which keeps every
// token changes nothing. Among equal logits the lower id counts as the likelier one, in every rule. When the
// rules leave no token (all of them banned or -inf), the answer is the same as for a row that is not finite:
// token -1, finite false.
//
// Threads: one sampler per thread; it keeps its scratch memory. Ids outside [0, V) in histories, biases and
// bans are passed over.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/sampling/sampling.hpp"

namespace troupe::ops {

// What the choice depends on beside the row and the parameters; see sample_request.
struct sampling_context {
  std::span<const std::int32_t> history;
  std::uint32_t prompt_tokens = 0;
  std::uint64_t position = 0;
  std::span<const std::int32_t> banned;
  std::int32_t top_logprobs = -1;
};

class sampler {
 public:
  sampled_token sample(std::span<const float> logits, const sampling_params& params,
                       const sampling_context& context);

  // Log-probability of `token` under the row, and the likeliest tokens. token in [0, V).
  sampled_token score(std::span<const float> logits, std::int32_t token, std::uint32_t top_logprobs);

 private:
  struct candidate {
    float value;
    std::int32_t token;
  };
  static bool likelier(const candidate& a, const candidate& b) {
    return a.value > b.value || (a.value == b.value && a.token < b.token);
  }

  std::span<const float> adjust(std::span<const float> logits, const sampling_params& params,
                                const sampling_context& context);
  void penalize(const sampling_params& params, const sampling_context& context);
  std::int32_t draw(std::span<const float> logits, float peak, const sampling_params& params,
                    std::uint64_t position);
  void keep_top_p(std::span<const float> weights, float top_p, double total);
  void keep_top(std::span<const float> values, std::size_t count);
  void add_logprobs(std::span<const float> logits, float peak, std::size_t top, sampled_token& result);

  std::vector<float> adjusted_;
  std::vector<float> weights_;
  std::vector<candidate> kept_;
  std::vector<std::uint32_t> occurrences_;  // [V] among generated tokens
  std::vector<std::uint8_t> seen_;          // [V] in the history; both all zero between calls
};

}  // namespace troupe::ops
