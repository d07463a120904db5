#include "actors/executor/step_runner.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>

namespace troupe {

struct step_runner::sequence {
  std::vector<std::int32_t> history;  // prompt, then what was generated
  std::uint32_t prompt_tokens = 0;
  std::vector<std::uint32_t> blocks;
  std::optional<slot_pool::slot> slot;  // of a model with recurrent state
  ops::sampling_params sampling;
  std::vector<std::int32_t> stop_ids;
  std::uint32_t max_tokens = 0;
  std::uint32_t min_tokens = 0;
  std::int32_t top_logprobs = -1;
  std::int32_t prompt_logprobs = -1;
  bool in_step = false;              // has its row in the batch at hand
  bool finished = false;             // by what was sampled
  std::uint32_t pending = 0;         // tokens that are being sampled in steps not collected
  std::int32_t pending_sample = -1;  // the last of them: index in the samples of its step
  // Tokens with those that are on their way.
  std::uint32_t length() const { return static_cast<std::uint32_t>(history.size()) + pending; }
  std::uint32_t generated() const { return length() - prompt_tokens; }
};

struct step_runner::row {
  std::shared_ptr<sequence> of;
  std::uint32_t outcome = 0;  // index in the step's outcomes
};

struct step_runner::outcome {
  std::uint64_t id = 0;
  std::int32_t token = -1;
  std::int32_t sample = -1;  // index in sampled_; -1 = a chunk that is not the last
  bool with_logprobs = false;
  bool starts_prompt = false;  // prompt log-probabilities begin with token 0
  std::int32_t first_token = -1;
  std::uint32_t score_begin = 0, score_end = 0;  // in scored_
  wire::FinishReason finish = wire::FinishReason::none;
  std::int32_t stop_token = -1;
  bool dropped = false;  // the sequence had ended when the step was computed
  std::string error;
};

struct step_runner::step {
  std::uint64_t number = 0, start_ns = 0;
  std::uint32_t tokens = 0;
  std::size_t samples = 0;
  std::vector<row> rows;
  std::vector<outcome> outcomes;
  std::vector<ops::score_request> scores;
};

namespace {

ops::sampling_params params_of(const wire::Sampling& s) {
  ops::sampling_params p;
  p.temperature = s.temperature();
  p.top_k = s.top_k();
  p.top_p = s.top_p();
  p.min_p = s.min_p();
  p.repetition_penalty = s.repetition_penalty();
  p.presence_penalty = s.presence_penalty();
  p.frequency_penalty = s.frequency_penalty();
  p.seed = s.seed();
  if (s.logit_bias() != nullptr)
    for (const wire::LogitBias* b : *s.logit_bias()) p.logit_bias.emplace_back(b->token(), b->bias());
  return p;
}

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                    std::chrono::nanoseconds(1));
}

}  // namespace

step_runner::step_runner(model_id model, std::shared_ptr<ops::model> compiled, std::uint32_t vocabulary,
                         std::uint32_t max_sequences)
    : id_(model),
      model_(std::move(compiled)),
      vocabulary_(vocabulary),
      slots_(max_sequences),
      builder_(4096) {}

step_runner::~step_runner() = default;

// Those that take part in the step are never among them: the scheduler has forgotten them.
void step_runner::end_sequences(const wire::StepPlan& plan) {
  if (plan.end() != nullptr)
    for (std::uint64_t id : *plan.end()) forget(id);
}

// Its slot is free at once, also where a step that is not collected still holds the sequence.
void step_runner::forget(std::uint64_t id) {
  auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  found->second->slot.reset();
  sequences_.erase(found);
}

void step_runner::begin(const wire::BeginSequence& b) {
  forget(b.sequence());
  auto s = std::make_shared<sequence>();
  s->prompt_tokens = b.prompt_tokens();
  s->max_tokens = b.max_tokens();
  s->min_tokens = b.min_tokens();
  s->history.reserve(std::size_t{b.prompt_tokens()} + std::min<std::uint32_t>(b.max_tokens(), 4096));
  s->history.assign(b.history()->begin(), b.history()->end());
  s->sampling = params_of(*b.sampling());
  if (b.stop_ids() != nullptr) s->stop_ids.assign(b.stop_ids()->begin(), b.stop_ids()->end());
  s->top_logprobs = b.top_logprobs();
  s->prompt_logprobs = b.prompt_logprobs();
  for (std::int32_t token : s->history)
    if (token < 0 || static_cast<std::uint32_t>(token) >= vocabulary_)
      return refuse(b.sequence(),
                    fmt::format("token id {} is outside the vocabulary of {}", token, vocabulary_));
  if (s->history.empty() || s->prompt_tokens == 0 || s->prompt_tokens > s->history.size() ||
      s->generated() >= s->max_tokens)
    return refuse(b.sequence(), fmt::format("a sequence of {} tokens with a prompt of {} and {} to generate",
                                            s->history.size(), s->prompt_tokens, s->max_tokens));
  if (model_->state_bytes() > 0) {
    if (auto slot = slots_.take()) s->slot.emplace(std::move(*slot));
    if (!s->slot)
      return refuse(b.sequence(),
                    "no place for its recurrent state: as many sequences have one as the batch holds");
  }
  sequences_[b.sequence()] = std::move(s);
}

void step_runner::grow(const flatbuffers::Vector<const wire::BlockGrant*>& grants) {
  auto at = sequences_.end();
  for (const wire::BlockGrant* g : grants) {
    if (at == sequences_.end() || at->first != g->sequence()) at = sequences_.find(g->sequence());
    if (at != sequences_.end()) at->second->blocks.push_back(g->block());
  }
}

// Drops a sequence with a reason. The others go on.
void step_runner::refuse(std::uint64_t id, std::string text) {
  outcome o;
  o.id = id;
  o.error = std::move(text);
  steps_.back()->outcomes.push_back(std::move(o));
  forget(id);
}

std::uint32_t step_runner::add_logit_row(std::uint32_t token_row) {
  logit_rows_.push_back(token_row);
  return static_cast<std::uint32_t>(logit_rows_.size() - 1);
}

void step_runner::add_chunk(const wire::PrefillChunk& chunk) {
  auto found = sequences_.find(chunk.sequence());
  if (found == sequences_.end()) return;
  sequence& s = *found->second;
  if (s.in_step) return;
  const std::uint64_t end = std::uint64_t{chunk.position()} + chunk.tokens();
  if (chunk.tokens() == 0 || end > s.history.size())
    return refuse(chunk.sequence(), fmt::format("a chunk of positions {} to {} in a history of {} tokens",
                                                chunk.position(), end, s.history.size()));
  add_row(chunk.sequence(), s, chunk.position(), chunk.tokens());
}

void step_runner::add_decode(std::uint64_t id) {
  auto found = sequences_.find(id);
  if (found == sequences_.end() || found->second->in_step) return;
  sequence& s = *found->second;
  if (s.generated() >= s.max_tokens) return;  // the token on its way ends it
  add_row(id, s, s.length() - 1, 1);
}

void step_runner::add_row(std::uint64_t id, sequence& s, std::uint32_t position, std::uint32_t tokens) {
  const std::uint64_t end = std::uint64_t{position} + tokens;
  if (end > s.blocks.size() * std::uint64_t{model_->block_tokens()})
    return refuse(id, fmt::format("position {} is beyond the {} cache blocks of the sequence", end - 1,
                                  s.blocks.size()));
  if (model_->state_bytes() > 0 && !s.slot)
    return refuse(id, "it began with a version of the model that has no recurrent state");
  s.in_step = true;
  outcome o;
  o.id = id;
  const auto first = static_cast<std::uint32_t>(tokens_.size());
  for (std::uint32_t i = 0; i < tokens; ++i) {
    const bool known = position + i < s.history.size();
    tokens_.push_back(known ? s.history[position + i] : -1);
    token_sources_.push_back(known ? -1 : s.pending_sample);
    any_source_ = any_source_ || !known;
    positions_.push_back(static_cast<std::int32_t>(position + i));
  }
  sequence_rows_.push_back(static_cast<std::uint32_t>(tokens_.size()));
  block_tables_.emplace_back(s.blocks);
  if (model_->state_bytes() > 0) state_slots_.push_back(s.slot->number());

  auto& scores = steps_.back()->scores;
  const bool last = end == s.length();
  o.score_begin = static_cast<std::uint32_t>(scores.size());
  if (s.prompt_logprobs >= 0 && position < s.prompt_tokens) {
    o.starts_prompt = position == 0;
    o.first_token = s.history[0];
    for (std::uint64_t p = position; p < end && p + 1 < s.prompt_tokens; ++p)
      scores.push_back({add_logit_row(first + static_cast<std::uint32_t>(p - position)), s.history[p + 1],
                        static_cast<std::uint32_t>(s.prompt_logprobs)});
  }
  o.score_end = static_cast<std::uint32_t>(scores.size());
  if (last) {
    // A scored row and the sampled one are never the same: the sampled one is behind the whole history.
    o.sample = static_cast<std::int32_t>(sample_requests_.size());
    o.with_logprobs = watched_ || s.top_logprobs >= 0;
    ops::sample_request& r = sample_requests_.emplace_back();
    r.logit_row = add_logit_row(first + tokens - 1);
    r.params = &s.sampling;
    r.history = s.history;
    r.prompt_tokens = s.prompt_tokens;
    r.position = s.generated();
    if (s.generated() < s.min_tokens) r.banned = s.stop_ids;
    r.top_logprobs = std::max(s.top_logprobs, watched_ ? 0 : -1);
    r.pending = s.pending > 0 ? s.pending_sample : -1;
  }
  auto& made = *steps_.back();
  made.rows.push_back({sequences_.at(id), static_cast<std::uint32_t>(made.outcomes.size())});
  made.outcomes.push_back(std::move(o));
}

ops::step_batch step_runner::batch() const {
  return {.tokens = tokens_,
          .positions = positions_,
          .sequence_rows = sequence_rows_,
          .block_tables = block_tables_,
          .logit_rows = logit_rows_,
          .state_slots = state_slots_,
          .token_sources =
              any_source_ ? std::span<const std::int32_t>(token_sources_) : std::span<const std::int32_t>()};
}

step_runner::step& step_runner::open_step(const wire::StepPlan& plan) {
  step& made = *steps_.emplace_back(std::make_unique<step>());
  made.number = plan.step();
  made.start_ns = now_ns();
  return made;
}

result<message<wire::StepResult>> step_runner::run(const wire::StepPlan& plan) {
  if (auto taken = enqueue(plan); !taken) return fail(taken.error());
  return collect();
}

result<void> step_runner::enqueue(const wire::StepPlan& plan) {
  tokens_.clear();
  token_sources_.clear();
  any_source_ = false;
  positions_.clear();
  sequence_rows_.assign(1, 0);
  block_tables_.clear();
  logit_rows_.clear();
  state_slots_.clear();
  sample_requests_.clear();
  step& made = open_step(plan);
  watched_ = plan.watch();
  if (plan.incarnation() != incarnation_) {
    for (auto& [id, s] : sequences_) s->slot.reset();
    sequences_.clear();
    incarnation_ = plan.incarnation();
  }
  end_sequences(plan);
  if (plan.begin() != nullptr)
    for (const wire::BeginSequence* b : *plan.begin()) begin(*b);
  if (plan.grow() != nullptr) grow(*plan.grow());
  if (plan.prefill() != nullptr)
    for (const wire::PrefillChunk* chunk : *plan.prefill()) add_chunk(*chunk);
  if (plan.decode() != nullptr)
    for (std::uint64_t id : *plan.decode()) add_decode(id);

  made.tokens = static_cast<std::uint32_t>(tokens_.size());
  made.samples = sample_requests_.size();
  if (made.tokens > 0)
    if (auto taken = model_->enqueue(batch(), sample_requests_, made.scores); !taken) return taken;
  for (const row& r : made.rows) {
    r.of->in_step = false;
    const outcome& o = made.outcomes[r.outcome];
    if (o.sample < 0) continue;
    ++r.of->pending;
    r.of->pending_sample = o.sample;
  }
  return {};
}

result<message<wire::StepResult>> step_runner::collect() {
  step& done = *steps_.front();
  std::uint64_t compute_ns = 0;
  if (done.tokens > 0) {
    sampled_.resize(std::max(sampled_.size(), done.samples));
    scored_.resize(std::max(scored_.size(), done.scores.size()));
    if (auto told = model_->collect(std::span(sampled_).first(done.samples),
                                    std::span(scored_).first(done.scores.size()));
        !told)
      return fail(told.error());
    const std::uint64_t now = now_ns();
    compute_ns = now - std::max(done.start_ns, collected_ns_);
    collected_ns_ = now;
    for (const row& r : done.rows) {
      outcome& o = done.outcomes[r.outcome];
      if (o.sample >= 0) --r.of->pending;
      o.dropped = r.of->finished;
      if (o.sample >= 0 && !o.dropped) settle(o, *r.of, sampled_[static_cast<std::size_t>(o.sample)]);
    }
  }
  auto told = write_result(done, compute_ns);
  steps_.pop_front();
  return told;
}

// Takes the sampled token into the sequence, and the sequence out if that ends it.
void step_runner::settle(outcome& o, sequence& s, const ops::sampled_token& sampled) {
  if (!sampled.finite || sampled.token < 0 || static_cast<std::uint32_t>(sampled.token) >= vocabulary_) {
    o.error =
        sampled.finite
            ? fmt::format("the backend sampled token {} of a vocabulary of {}", sampled.token, vocabulary_)
            : fmt::format("the model gave non-finite logits behind {} tokens", s.history.size());
    finish(o.id, s);
    return;
  }
  o.token = sampled.token;
  s.history.push_back(sampled.token);
  if (std::ranges::find(s.stop_ids, sampled.token) != s.stop_ids.end()) {
    o.finish = wire::FinishReason::stop;
    o.stop_token = sampled.token;
  } else if (s.history.size() - s.prompt_tokens >= s.max_tokens) {
    o.finish = wire::FinishReason::length;
  }
  if (o.finish != wire::FinishReason::none) finish(o.id, s);
}

// Its blocks and its slot are the scheduler's again; what the device still does with them comes before whatever is enqueued next.
void step_runner::finish(std::uint64_t id, sequence& s) {
  s.finished = true;
  s.slot.reset();
  if (auto found = sequences_.find(id); found != sequences_.end() && found->second.get() == &s)
    sequences_.erase(found);
}

namespace {

using alternatives_offset = flatbuffers::Offset<flatbuffers::Vector<const wire::TokenAlternative*>>;

alternatives_offset write_top(flatbuffers::FlatBufferBuilder& builder,
                              const std::vector<ops::token_alternative>& top) {
  if (top.empty()) return 0;
  wire::TokenAlternative* out = nullptr;
  auto offset = builder.CreateUninitializedVectorOfStructs(top.size(), &out);
  for (const auto& t : top) *out++ = wire::TokenAlternative(t.token, t.logprob);
  return offset;
}

}  // namespace

flatbuffers::Offset<wire::SequenceStep> step_runner::write(const step& of, const outcome& o) {
  logprobs_.clear();
  if (o.starts_prompt)
    logprobs_.push_back(
        wire::CreateTokenLogprob(builder_, o.first_token, std::numeric_limits<float>::quiet_NaN()));
  for (std::uint32_t i = o.score_begin; i < o.score_end; ++i) {
    const auto top = write_top(builder_, scored_[i].top);
    logprobs_.push_back(wire::CreateTokenLogprob(builder_, of.scores[i].token, scored_[i].logprob, 0, top));
  }
  const auto prompt = logprobs_.empty() ? 0 : builder_.CreateVector(logprobs_);
  const auto* sampled =
      o.token >= 0 && o.with_logprobs ? &sampled_[static_cast<std::size_t>(o.sample)] : nullptr;
  const auto top = sampled != nullptr ? write_top(builder_, sampled->top) : 0;
  const auto text = o.error.empty() ? 0 : builder_.CreateString(o.error);
  return wire::CreateSequenceStep(builder_, o.id, o.token, sampled != nullptr ? sampled->logprob : 0, top,
                                  prompt, o.finish, o.stop_token,
                                  o.error.empty() ? error_code::none : error_code::internal, text);
}

message<wire::StepResult> step_runner::write_result(const step& of, std::uint64_t compute_ns) {
  written_.clear();
  for (const outcome& o : of.outcomes)
    if (!o.dropped) written_.push_back(write(of, o));
  const auto sequences = builder_.CreateVector(written_);
  return message<wire::StepResult>::finish(
      builder_, wire::CreateStepResult(builder_, id_.value, of.number, sequences, of.tokens, compute_ns));
}

message<wire::StepResult> step_runner::empty_result(const wire::StepPlan& plan) {
  step& made = open_step(plan);
  if (plan.incarnation() == incarnation_) end_sequences(plan);
  auto told = write_result(made, 0);
  steps_.pop_back();
  return told;
}

}  // namespace troupe
