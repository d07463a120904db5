#include "actors/scheduler/token_writer.hpp"

#include <algorithm>
#include <utility>

namespace troupe {

namespace {

wire::SequenceUsage usage_of(const sequence& s) {
  return {s.prompt_tokens(), s.cached_tokens, s.generated(), s.queued_ns, s.first_token_ns};
}

}  // namespace

token_writer::destination& token_writer::of(const sequence& s) {
  if (destinations_.size() <= s.destination) destinations_.resize(s.destination + 1);
  auto& d = destinations_[s.destination];
  if (d == nullptr) d = std::make_unique<destination>();
  return *d;
}

token_writer::delta& token_writer::add_delta(destination& d, const sequence& s) {
  if (d.used == d.deltas.size()) d.deltas.emplace_back();
  delta& made = d.deltas[d.used++];
  auto tokens = std::move(made.tokens);
  tokens.clear();
  made = {.stream = s.submit->stream(), .choice = s.submit->choice(), .tokens = std::move(tokens)};
  return made;
}

void token_writer::add_token(sequence& s, const wire::SequenceStep& step) {
  destination& d = of(s);
  const auto* alternatives = step.top();
  flatbuffers::Offset<flatbuffers::Vector<const wire::TokenAlternative*>> top = 0;
  if (alternatives != nullptr) {
    wire::TokenAlternative* out = nullptr;
    top = d.builder.CreateUninitializedVectorOfStructs(alternatives->size(), &out);
    for (const wire::TokenAlternative* a : *alternatives) *out++ = *a;
  }
  const auto token = wire::CreateTokenLogprob(d.builder, step.token(), step.logprob(), 0, top);

  if (s.told.batch != d.batch) s.told = {d.batch, static_cast<std::uint32_t>(d.used)};
  delta& to = s.told.place < d.used ? d.deltas[s.told.place] : add_delta(d, s);
  to.tokens.push_back(token);
  ++d.tokens;
  to.finish = step.finish();
  to.stop_token = step.stop_token();
  if (!s.prompt_logprobs.empty()) {
    prompt_.clear();
    for (const auto& p : s.prompt_logprobs) prompt_.push_back(wire::TokenLogprob::Pack(d.builder, p.get()));
    to.prompt = d.builder.CreateVector(prompt_);
    s.prompt_logprobs.clear();
  }
  s.prompt_told = true;
  if (step.finish() != wire::FinishReason::none || !to.prompt.IsNull() || s.generated() == 1)
    to.usage = usage_of(s);
}

void token_writer::add_end(const sequence& s, error_code error, std::string_view text) {
  destination& d = of(s);
  delta& end = add_delta(d, s);  // behind the tokens that wait: they are delivered before an error
  end.finish = error == error_code::none ? wire::FinishReason::length : wire::FinishReason::none;
  end.error = error;
  if (!text.empty()) end.error_text = d.builder.CreateString(text.data(), text.size());
  end.usage = usage_of(s);
}

message<wire::TokenBatch> token_writer::write(destination& d) {
  std::vector<flatbuffers::Offset<wire::TokenDelta>> list;
  list.reserve(d.used);
  for (std::size_t i = 0; i < d.used; ++i) {
    const delta& x = d.deltas[i];
    const auto tokens = x.tokens.empty() ? 0 : d.builder.CreateVector(x.tokens);
    list.push_back(wire::CreateTokenDelta(d.builder, x.stream, x.choice, tokens, x.prompt, x.finish,
                                          x.stop_token, x.error, x.error_text,
                                          x.usage ? &*x.usage : nullptr));
  }
  d.used = 0;
  d.tokens = 0;
  ++d.batch;
  const auto deltas = d.builder.CreateVector(list);
  return message<wire::TokenBatch>::finish(d.builder, wire::CreateTokenBatch(d.builder, deltas));
}

void token_writer::take(std::vector<token_batch>& out) {
  for (std::uint32_t i = 0; i < destinations_.size(); ++i) {
    destination* d = destinations_[i].get();
    if (d == nullptr || d->used == 0 || d->under_way == batches_under_way) continue;
    ++d->under_way;
    out.push_back({i, write(*d)});
  }
}

void token_writer::taken(std::uint32_t number) {
  if (number < destinations_.size() && destinations_[number] != nullptr &&
      destinations_[number]->under_way > 0)
    --destinations_[number]->under_way;
}

void token_writer::forget(std::uint32_t number) {
  if (number < destinations_.size()) destinations_[number].reset();
}

std::uint32_t token_writer::backlog(std::uint32_t number) const {
  return number < destinations_.size() && destinations_[number] != nullptr ? destinations_[number]->tokens
                                                                           : 0;
}

}  // namespace troupe
