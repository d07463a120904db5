#include "actors/tokenizer/stream_state.hpp"

#include <algorithm>
#include <limits>

namespace troupe::text {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

scored_token read_token(const wire::TokenLogprob& from) {
  scored_token to{from.token(), from.logprob(), {}};
  if (const auto* top = from.top())
    for (const auto* alternative : *top) to.top.push_back(*alternative);
  return to;
}

Offset<flatbuffers::Vector<Offset<wire::TokenLogprob>>> build_tokens(FlatBufferBuilder& b,
                                                                     const std::vector<scored_token>& tokens,
                                                                     const tokenizer& t) {
  std::vector<Offset<wire::TokenLogprob>> list;
  list.reserve(tokens.size());
  for (const auto& token : tokens) {
    const auto bytes = t.token_bytes(token.token);
    auto text = b.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    auto top = token.top.empty() ? 0 : b.CreateVectorOfStructs(token.top);
    list.push_back(wire::CreateTokenLogprob(b, token.token, token.logprob, text, top));
  }
  return b.CreateVector(list);
}

double to_ms(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e6;
}

}  // namespace

stream_state::stream_state(std::uint64_t stream, admitted_request request, tokenizer_ptr tokenizer)
    : stream_(stream), request_(std::move(request)), tokenizer_(std::move(tokenizer)) {
  const choice_text_options options{request_.skip_special_tokens, request_.include_stop_string,
                                    request_.min_tokens, request_.stop_strings};
  choices_.reserve(request_.choices);
  for (std::uint32_t i = 0; i < request_.choices; ++i) {
    choices_.push_back({choice_text(tokenizer_, options), {}, {}, wire::FinishReason::none, -1, {}});
    if (request_.echo) choices_.back().text.echo(request_.prompt);
  }
}

std::vector<message<wire::Submit>> stream_state::submits() const {
  std::vector<message<wire::Submit>> list;
  for (std::uint32_t i = 0; i < choices_.size(); ++i)
    if (choices_[i].finish == wire::FinishReason::none)
      list.push_back(make_submit(request_, stream_, i, choices_[i].generated));
  return list;
}

stream_state::outcome stream_state::apply(const wire::TokenDelta& delta, std::uint64_t now_ns) {
  outcome out;
  if (ended_ || delta.choice() >= choices_.size()) return out;
  auto& c = choices_[delta.choice()];
  if (c.finish != wire::FinishReason::none) return out;
  if (delta.error() != error_code::none)
    return fail(delta.error(),
                delta.error_text() ? delta.error_text()->string_view() : "the sequence was ended");

  try {
    take(c, delta, now_ns, out);
  } catch (const cannot_tokenize& e) {
    return fail(error_code::internal, e.what());
  }
  return out;
}

void stream_state::take(choice& c, const wire::TokenDelta& delta, std::uint64_t now_ns, outcome& out) {
  take_prompt_scores(c, delta);
  take_tokens(c, delta, now_ns);
  if (const auto* usage = delta.usage()) {
    if (!usage_) usage_ = *usage;
    // What was sampled behind a stop string does not count, however many steps one delta tells of.
    if (delta.finish() != wire::FinishReason::none && !c.text.stop_string())
      c.counted = usage->generated_tokens();
  }
  if (c.text.stop_string()) {
    end_choice(c, wire::FinishReason::stop);
    if (delta.finish() == wire::FinishReason::none) out.stop_choices.push_back(delta.choice());
  } else if (delta.finish() != wire::FinishReason::none) {
    if (delta.finish() == wire::FinishReason::stop) c.stop_token = delta.stop_token();
    end_choice(c, delta.finish());
  }
  if (auto chunk = next_chunk(delta.choice())) out.replies.push_back(std::move(*chunk));
  end_if_done(out, now_ns);
}

stream_state::outcome stream_state::cancel(std::uint64_t now_ns) {
  outcome out;
  if (ended_) return out;
  try {
    for (std::uint32_t i = 0; i < choices_.size(); ++i) {
      if (choices_[i].finish != wire::FinishReason::none) continue;
      end_choice(choices_[i], wire::FinishReason::cancelled);
      if (auto chunk = next_chunk(i)) out.replies.push_back(std::move(*chunk));
    }
  } catch (const cannot_tokenize& e) {
    return fail(error_code::internal, e.what());
  }
  out.drop_all = true;
  end_if_done(out, now_ns);
  return out;
}

stream_state::outcome stream_state::fail(error_code code, std::string_view text) {
  outcome out;
  if (ended_) return out;
  ended_ = true;
  out.drop_all = true;
  out.ended = true;
  out.replies.push_back(error_reply(request_.request, code, text));
  return out;
}

void stream_state::take_tokens(choice& c, const wire::TokenDelta& delta, std::uint64_t now_ns) {
  const auto* tokens = delta.tokens();
  if (!tokens || tokens->size() == 0) return;
  if (first_token_ns_ == 0 && now_ns > request_.received_ns) first_token_ns_ = now_ns - request_.received_ns;
  // The token that ended the choice is told by its id, not as text.
  const bool last_is_stop = delta.finish() == wire::FinishReason::stop && delta.stop_token() >= 0 &&
                            tokens->Get(tokens->size() - 1)->token() == delta.stop_token();
  for (flatbuffers::uoffset_t i = 0; i < tokens->size(); ++i) {
    c.generated.push_back(tokens->Get(i)->token());
    if (last_is_stop && i + 1 == tokens->size()) break;
    if (c.text.push(read_token(*tokens->Get(i)))) break;
  }
}

void stream_state::take_prompt_scores(choice& c, const wire::TokenDelta& delta) {
  if (!delta.prompt()) return;
  for (const auto* t : *delta.prompt()) c.prompt_scores.push_back(read_token(*t));
  if (c.prompt_scores.size() + 1 == request_.prompt.size())  // nothing predicts the first token
    c.prompt_scores.insert(c.prompt_scores.begin(),
                           {request_.prompt.front(), std::numeric_limits<float>::quiet_NaN(), {}});
}

void stream_state::end_choice(choice& c, wire::FinishReason finish) {
  c.finish = c.text.finish() ? wire::FinishReason::stop : finish;
  if (c.text.stop_string()) c.stop_token = -1;
}

// Nothing if there is nothing to tell now.
std::optional<reply_message> stream_state::next_chunk(std::uint32_t index) {
  auto& c = choices_[index];
  const bool ended = c.finish != wire::FinishReason::none;
  if (!request_.stream && !ended) return std::nullopt;
  auto text = c.text.take_text();
  auto tokens = c.text.take_tokens();
  const auto prompt = std::exchange(c.prompt_scores, {});
  if (request_.top_logprobs < 0) tokens.clear();
  if (text.empty() && tokens.empty() && prompt.empty() && request_.stream) return std::nullopt;
  FlatBufferBuilder b(128 + text.size() + 64 * (tokens.size() + prompt.size()));
  auto words = b.CreateString(text);
  auto token_list = tokens.empty() ? 0 : build_tokens(b, tokens, *tokenizer_);
  auto prompt_list = prompt.empty() ? 0 : build_tokens(b, prompt, *tokenizer_);
  return make_reply(b, request_.request, wire::CreateChunk(b, index, words, token_list, prompt_list));
}

void stream_state::end_if_done(outcome& out, std::uint64_t now_ns) {
  if (std::ranges::any_of(choices_, [](const choice& c) { return c.finish == wire::FinishReason::none; }))
    return;
  ended_ = true;
  out.ended = true;
  out.replies.push_back(final_reply(now_ns));
}

reply_message stream_state::final_reply(std::uint64_t now_ns) const {
  FlatBufferBuilder b(256);
  std::uint32_t generated = 0;
  std::vector<Offset<wire::ChoiceEnd>> ends;
  for (std::uint32_t i = 0; i < choices_.size(); ++i) {
    const auto& c = choices_[i];
    const auto count = c.counted.value_or(static_cast<std::uint32_t>(c.generated.size()));
    generated += count;
    const auto& hit = c.text.stop_string();
    auto stop_string = hit ? b.CreateString(*hit) : 0;
    ends.push_back(
        wire::CreateChoiceEnd(b, i, c.finish, c.stop_token, stop_string, count, request_.sampling.seed + i));
  }
  auto end_list = b.CreateVector(ends);
  const auto told = usage_.value_or(wire::SequenceUsage{});
  const auto first_ns = told.first_token_ns() != 0 ? told.first_token_ns() : first_token_ns_;
  auto usage = wire::CreateUsage(b, static_cast<std::uint32_t>(request_.prompt.size()), told.cached_tokens(),
                                 generated, to_ms(told.queued_ns()), to_ms(first_ns),
                                 to_ms(now_ns - request_.received_ns));
  return make_reply(b, request_.request, wire::CreateFinal(b, end_list, usage));
}

}  // namespace troupe::text
