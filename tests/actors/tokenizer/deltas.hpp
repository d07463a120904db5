// What a scheduler tells of its sequences, and what a stream makes of it.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/tokenizer/stream_state.hpp"

namespace troupe::text::testing {

struct delta {
  std::uint64_t stream = 1;
  std::uint32_t choice = 0;
  std::vector<std::int32_t> tokens = {};
  wire::FinishReason finish = wire::FinishReason::none;
  std::int32_t stop_token = -1;
  std::vector<std::int32_t> prompt = {};
  error_code error = error_code::none;
  std::string error_text = {};
  std::optional<wire::SequenceUsage> usage = {};
};

inline std::unique_ptr<wire::TokenDeltaT> native(const delta& d) {
  auto to = std::make_unique<wire::TokenDeltaT>();
  to->stream = d.stream;
  to->choice = d.choice;
  const auto add = [](auto& list, std::int32_t id) {
    list.push_back(std::make_unique<wire::TokenLogprobT>());
    list.back()->token = id;
    list.back()->logprob = -0.5F;
    list.back()->top.emplace_back(id, -0.5F);
  };
  for (const auto id : d.tokens) add(to->tokens, id);
  for (const auto id : d.prompt) add(to->prompt, id);
  to->finish = d.finish;
  to->stop_token = d.stop_token;
  to->error = d.error;
  to->error_text = d.error_text;
  if (d.usage) to->usage = std::make_unique<wire::SequenceUsage>(*d.usage);
  return to;
}

inline message<wire::TokenDelta> packed(const delta& d) {
  return message<wire::TokenDelta>::pack(*native(d));
}

inline message<wire::TokenBatch> batch_of(const std::vector<delta>& deltas) {
  wire::TokenBatchT batch;
  for (const auto& d : deltas) batch.deltas.push_back(native(d));
  return message<wire::TokenBatch>::pack(batch);
}

// All that a client has been told.
struct transcript {
  std::map<std::uint32_t, std::string> text;
  std::map<std::uint32_t, std::vector<std::int32_t>> tokens;
  std::map<std::uint32_t, int> chunks;
  std::vector<std::int32_t> prompt;
  std::unique_ptr<wire::FinalT> final;
  std::unique_ptr<wire::ErrorT> error;

  void read(const reply_message& r) {
    ASSERT_FALSE(final || error) << "something came behind the end";
    if (const auto* c = r->body_as_Chunk()) {
      ++chunks[c->choice()];
      if (c->text()) text[c->choice()] += c->text()->str();
      if (c->tokens())
        for (const auto* t : *c->tokens()) tokens[c->choice()].push_back(t->token());
      if (c->prompt())
        for (const auto* t : *c->prompt()) prompt.push_back(t->token());
    } else if (const auto* f = r->body_as_Final()) {
      final.reset(f->UnPack());
    } else if (const auto* e = r->body_as_Error()) {
      error.reset(e->UnPack());
    }
  }
  void read(const stream_state::outcome& out) {
    for (const auto& r : out.replies) read(r);
    if (!out.replies.empty()) {
      EXPECT_EQ(out.ended, final || error);
    }
  }
};

}  // namespace troupe::text::testing
