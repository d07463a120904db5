// Groups that run the model. Each compares with the float32 reference; tolerances are in `tolerances`.
#pragma once

#include <vector>

#include "actors/tokenizer/tokenizer.hpp"
#include "cli/check/goldens.hpp"
#include "sandbox/conformance/model_runner.hpp"
#include "sandbox/conformance/report.hpp"

namespace troupe::check {

// For float32 arithmetic on the checkpoint's bf16 weights. tests/golden/README.md says why these are fair.
struct tolerances {
  double logits = 5e-4;         // absolute; prompt log-probabilities, hidden states and router outputs too
  double greedy_margin = 2e-3;  // below that the reference's choice between its best two tokens is no promise
  double mean_logits = 0, mean_logprobs = 0;  // on average; 0 = not asked for
  std::size_t keep_greedy = 0;  // prompts that keep the greedy path for 16 tokens; 0 = not asked for
  double batch = 0;             // between a prompt alone and among others; 0 = bit for bit
};
// For a device that rounds what enters a product to bf16: no further from the float32 reference than the reference's own bf16 run is,
// which the prompts record: no single number, not on average, and no fewer prompts that keep the greedy path for 16 tokens.
tolerances of_rounded_products(const std::vector<prompt_case>& prompts);

struct model_inputs {
  model_runner& runner;
  const std::vector<prompt_case>& prompts;
  tolerances allowed;
  const progress& report;
};

// The prompt in one step. Two groups: "logits" (last position: the 20 best and the logarithm of the sum of
// exponentials) and "prompt logprobs".
std::vector<group> check_logits(const model_inputs& in);

// The prompt in steps of several sizes; last position as in "logits".
group check_chunks(const model_inputs& in);

// 64 tokens, each the most likely one, fed back one at a time. Two groups: "greedy" (token for token) and
// "answers" (the text up to the first end of sequence, and what it must contain).
std::vector<group> check_greedy(const model_inputs& in, const text::tokenizer_ptr& tokenizer);

// Prompts of at most 256 tokens together in ragged steps, prefill beside decode: logits must be those of
// each prompt alone, bit for bit where the device promises it.
group check_batch(const model_inputs& in);

// Recorded prompts, all positions. Three groups: "hidden states", "router", "all logits".
std::vector<group> check_states(const model_inputs& in, const state_tensors& states,
                                const program::verified_program& program);

}  // namespace troupe::check
