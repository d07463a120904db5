// One open stream: from the scheduler's tokens to the client's chunks, up to exactly one Final or Error. Plain class, no
// actors, no clock of its own; one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/replies.hpp"
#include "actors/tokenizer/admission.hpp"
#include "actors/tokenizer/choice_text.hpp"
#include "troupe/schemas/actors_generated.h"

namespace troupe::text {

class stream_state {
 public:
  // What a step of a stream asks of its actor.
  struct outcome {
    std::vector<reply_message> replies;       // in order; the last one ends the stream if `ended`
    std::vector<std::uint32_t> stop_choices;  // ended by a stop string: the scheduler is to drop them
    bool drop_all = false;                    // the scheduler is to drop what is left of the stream
    bool ended = false;
  };

  stream_state(std::uint64_t stream, admitted_request request, tokenizer_ptr tokenizer);

  // What the scheduler is told: of each choice that still runs, with what it has generated so far.
  std::vector<message<wire::Submit>> submits() const;

  // New tokens of one choice. For a choice that has ended already it does nothing.
  outcome apply(const wire::TokenDelta& delta, std::uint64_t now_ns);

  // The client's wish: what is held back is given out, then a Final whose unfinished choices are `cancelled`.
  outcome cancel(std::uint64_t now_ns);

  // Ends in an Error.
  outcome fail(error_code code, std::string_view text);

  std::uint64_t stream() const { return stream_; }

 private:
  struct choice {
    choice_text text;
    std::vector<std::int32_t> generated;
    std::vector<scored_token> prompt_scores;  // not yet given out
    wire::FinishReason finish = wire::FinishReason::none;
    std::int32_t stop_token = -1;
    std::optional<std::uint32_t> counted;  // by the scheduler
  };

  void take(choice& c, const wire::TokenDelta& delta, std::uint64_t now_ns, outcome& out);
  void take_tokens(choice& c, const wire::TokenDelta& delta, std::uint64_t now_ns);
  void take_prompt_scores(choice& c, const wire::TokenDelta& delta);
  void end_choice(choice& c, wire::FinishReason finish);
  std::optional<reply_message> next_chunk(std::uint32_t index);
  void end_if_done(outcome& out, std::uint64_t now_ns);
  reply_message final_reply(std::uint64_t now_ns) const;

  std::uint64_t stream_;
  admitted_request request_;
  tokenizer_ptr tokenizer_;
  std::vector<choice> choices_;
  std::optional<wire::SequenceUsage> usage_;  // of the choice that told first
  std::uint64_t first_token_ns_ = 0;          // after receipt, as seen here; 0 = none yet
  bool ended_ = false;
};

}  // namespace troupe::text
