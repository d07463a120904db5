// Admission: a client's request becomes token ids and complete, checked instructions for the scheduler.
// Plain functions, no actors; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "actors/replies.hpp"
#include "actors/tokenizer/chat_template.hpp"
#include "actors/tokenizer/tokenizer.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/frame/message.hpp"
#include "troupe/schemas/actors_generated.h"
#include "troupe/schemas/client_generated.h"

namespace troupe::text {

// What admission must know of a model.
struct text_model {
  std::string name;
  tokenizer_ptr tokenizer;
  std::optional<chat_template> chat;  // none: the model has no chat format
  std::vector<std::int32_t> eos_ids;
  std::optional<std::int32_t> bos_id;
  std::uint32_t context_tokens = 0;  // prompt and generated together
  std::uint32_t vocabulary = 0;      // V; ids are below it
  checkpoint::generation_defaults generation;
};

struct admission_limits {
  std::uint32_t choices = most_choices;
  std::uint32_t top_logprobs = 20;
  std::size_t stop_strings = 64;
  std::size_t stop_string_bytes = 1024;
  std::size_t stop_ids = 1024;
  std::size_t logit_biases = 4096;
};

// A Generate that has passed every check.
struct admitted_request {
  std::uint64_t request = 0;  // the client's id
  std::vector<std::int32_t> prompt;
  wire::SamplingT sampling;  // complete; has_seed; the seed of choice 0
  std::vector<std::int32_t> stop_ids;
  std::vector<std::string> stop_strings;
  bool include_stop_string = false;
  std::uint32_t max_tokens = 0;  // > 0 and within the context
  std::uint32_t min_tokens = 0;
  std::uint32_t choices = 1;
  bool stream = true;
  bool echo = false;
  bool skip_special_tokens = true;
  std::int32_t top_logprobs = -1;     // -1 = no log-probabilities
  std::int32_t prompt_logprobs = -1;  // -1 = none
  std::uint64_t received_ns = 0;
  std::uint64_t deadline_ns = 0;  // 0 = none
};

// On the steady clock, in nanoseconds; 0 = none.
std::uint64_t deadline_of(const wire::Generate& request, std::uint64_t received_ns);

// `draw_seed` is asked if the request brings no seed. Errors, each naming field, found and allowed:
// invalid_request, context_exceeded (both numbers), template_failed.
result<admitted_request> admit(const text_model& model, std::uint64_t request_id,
                               const wire::Generate& request, std::uint64_t received_ns,
                               const std::function<std::uint64_t()>& draw_seed,
                               const admission_limits& limits = {});

// The instruction for one choice. `generated`: its tokens so far, when it is submitted again.
message<wire::Submit> make_submit(const admitted_request& request, std::uint64_t stream, std::uint32_t choice,
                                  const std::vector<std::int32_t>& generated);

struct encoded_prompt {
  std::vector<std::int32_t> ids;
  std::string text;  // what was encoded; empty for a TokenPrompt
};
// to_continue: text that cannot fit into the context is refused unread.
enum class prompt_use { to_continue, to_look_at };
// Errors: invalid_request (no prompt, no chat format, ids outside the vocabulary, text that the tokenizer's regular
// expressions cannot cut), context_exceeded, template_failed.
result<encoded_prompt> encode_prompt(const text_model& model, wire::Prompt type, const void* prompt,
                                     prompt_use use);

// Answers to the small requests.
result<encoded_prompt> tokenize(const text_model& model, const wire::Tokenize& request);
result<std::string> detokenize(const text_model& model, const wire::Detokenize& request);

}  // namespace troupe::text
