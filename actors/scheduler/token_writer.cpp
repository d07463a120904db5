#include "actors/scheduler/token_writer.hpp"

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

void token_writer::add_token(sequence& s, const wire::SequenceStep& step) {
  destination& d = of(s);
  prompt_.clear();
  for (const auto& p : s.prompt_logprobs) prompt_.push_back(wire::TokenLogprob::Pack(d.builder, p.get()));
  const auto prompt = prompt_.empty() ? 0 : d.builder.CreateVector(prompt_);
  s.prompt_logprobs.clear();
  s.prompt_told = true;

  const auto* alternatives = step.top();
  flatbuffers::Offset<flatbuffers::Vector<const wire::TokenAlternative*>> top = 0;
  if (alternatives != nullptr) {
    wire::TokenAlternative* out = nullptr;
    top = d.builder.CreateUninitializedVectorOfStructs(alternatives->size(), &out);
    for (const wire::TokenAlternative* a : *alternatives) *out++ = *a;
  }
  const auto token = wire::CreateTokenLogprob(d.builder, step.token(), step.logprob(), 0, top);
  const auto tokens = d.builder.CreateVector(&token, 1);
  const bool first_or_last =
      step.finish() != wire::FinishReason::none || !prompt_.empty() || s.size() == s.prompt_tokens() + 1;
  const wire::SequenceUsage usage = usage_of(s);
  d.deltas.push_back(wire::CreateTokenDelta(d.builder, s.submit->stream(), s.submit->choice(), tokens, prompt,
                                            step.finish(), step.stop_token(), error_code::none, 0,
                                            first_or_last ? &usage : nullptr));
}

void token_writer::add_end(const sequence& s, error_code error, std::string_view text) {
  destination& d = of(s);
  const auto words = text.empty() ? 0 : d.builder.CreateString(text.data(), text.size());
  const auto finish = error == error_code::none ? wire::FinishReason::length : wire::FinishReason::none;
  const wire::SequenceUsage usage = usage_of(s);
  d.deltas.push_back(wire::CreateTokenDelta(d.builder, s.submit->stream(), s.submit->choice(), 0, 0, finish,
                                            -1, error, words, &usage));
}

void token_writer::take(std::vector<token_batch>& out) {
  for (std::uint32_t i = 0; i < destinations_.size(); ++i) {
    destination* d = destinations_[i].get();
    if (d == nullptr || d->deltas.empty()) continue;
    const auto deltas = d->builder.CreateVector(d->deltas);
    d->deltas.clear();
    out.push_back(
        {i, message<wire::TokenBatch>::finish(d->builder, wire::CreateTokenBatch(d->builder, deltas))});
  }
}

}  // namespace troupe
