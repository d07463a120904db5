// Life of the sequences. What goes into leases and plans: batch_planner_steps.cpp; switches and alarms: batch_planner_versions.cpp.
#include "actors/scheduler/batch_planner.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace troupe {

batch_planner::batch_planner(const planner_options& options) : options_(options) {}

// ---- requests -----------------------------------------------------------------------------------------

void batch_planner::submit(std::uint32_t destination, message<wire::Submit> request, std::uint64_t now_ns) {
  if (aborted_.contains(request->stream())) return;
  auto owner = std::make_unique<sequence>();
  sequence& s = *owner;
  s.submit = std::move(request);
  s.destination = destination;
  s.waiting_since_ns = now_ns;
  s.tokens.assign(s.submit->prompt()->begin(), s.submit->prompt()->end());
  if (const auto* generated = s.submit->generated())
    s.tokens.insert(s.tokens.end(), generated->begin(), generated->end());
  s.max_tokens = s.submit->max_tokens();
  s.prompt_told = s.generated() > 0;
  if (s.prompt_tokens() == 0 || s.max_tokens == 0)
    return writer_.add_end(s, error_code::invalid_request,
                           "a prompt of at least one token and max_tokens of at least 1 are needed");

  const auto name = std::make_pair(s.submit->stream(), s.submit->choice());
  if (auto known = by_choice_.find(name); known != by_choice_.end()) drop(*known->second);
  if (waiting_.size() >= options_.queue_limit && s.generated() == 0)
    return writer_.add_end(s, error_code::overloaded,
                           fmt::format("{} sequences are waiting already; try again later", waiting_.size()));
  s.arrival = next_arrival_++;
  s.id = {next_id_++};
  waiting_.push_back(std::move(owner));
  s.self = std::prev(waiting_.end());
  by_id_[s.id.value] = &s;
  by_choice_[name] = &s;
  if (s.submit->deadline_ns() != 0 && now_ns >= s.submit->deadline_ns())
    return finish_with(s, error_code::deadline_exceeded,
                       "the request's deadline had passed before it could start");
  if (pool_ != 0) fits(s);
}

void batch_planner::abort(const wire::Abort& request) {
  const std::uint64_t stream = request.stream();
  if (request.choice() >= 0) {
    auto found = by_choice_.find({stream, static_cast<std::uint32_t>(request.choice())});
    if (found != by_choice_.end()) drop(*found->second);
    return;
  }
  for (auto i = by_choice_.lower_bound({stream, 0}); i != by_choice_.end() && i->first.first == stream;)
    drop(*(i++)->second);
  remember_aborted(stream);
}

// Who aborts may be ahead of who submits, by as long as a tokenizer is busy.
void batch_planner::remember_aborted(std::uint64_t stream) {
  if (!aborted_.insert(stream).second) return;
  aborted_in_order_.push_back(stream);
  if (aborted_in_order_.size() <= options_.aborts_remembered) return;
  aborted_.erase(aborted_in_order_.front());
  aborted_in_order_.pop_front();
}

void batch_planner::abort_destination(std::uint32_t destination) {
  for (auto i = by_choice_.begin(); i != by_choice_.end();) {
    sequence& s = *(i++)->second;
    if (s.destination == destination) drop(s);
  }
  writer_.forget(destination);
}

// ---- life of a sequence -------------------------------------------------------------------------------

sequence* batch_planner::find(std::uint64_t id) {
  auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

// It has its blocks: it takes its place in the batch.
void batch_planner::admit(sequence& s) {
  auto place = running_.end();
  while (place != running_.begin() && (*std::prev(place))->arrival > s.arrival) --place;
  running_.splice(place, waiting_, s.self);
  s.running = true;
}

// Gives its blocks back. The tokens whose K/V are certain stay behind as a prefix for others.
void batch_planner::release(const sequence& s, bool keep_prefix) {
  if (!cache_ || (s.leased == 0 && !s.asked)) return;
  const auto ids = keep_prefix && !version_.recurrent && !s.mixed && s.computed > 0
                       ? release_builder_.CreateVector(s.tokens.data(), s.computed)
                       : 0;
  releases_.push_back(wire::CreateReleaseItem(release_builder_, s.id.value, ids));
  admission_blocked_ = false;
  for (auto& r : running_) r->refused = r->tight = false;
}

void batch_planner::forget(sequence& s) {
  by_id_.erase(s.id.value);
  by_choice_.erase({s.submit->stream(), s.submit->choice()});
  (s.running ? running_ : waiting_).erase(s.self);
}

void batch_planner::drop(sequence& s) {
  if (s.begun) ends_.push_back(s.id.value);
  release(s, true);
  forget(s);
}

void batch_planner::finish_with(sequence& s, error_code error, std::string_view text) {
  writer_.add_end(s, error, text);
  drop(s);
}

// Back to the queue, before all that came after it. The caller has seen to its blocks.
void batch_planner::requeue(sequence& s, std::uint64_t now_ns) {
  if (s.begun) ends_.push_back(s.id.value);
  by_id_.erase(s.id.value);
  if (s.running) {
    auto place = waiting_.begin();
    while (place != waiting_.end() && (*place)->arrival < s.arrival) ++place;
    waiting_.splice(place, running_, s.self);
    s.waiting_since_ns = now_ns;
  }
  s.reset({next_id_++});
  by_id_[s.id.value] = &s;
}

void batch_planner::requeue_all(std::uint64_t now_ns) {
  if (!running_.empty()) ++recoveries_;
  while (!running_.empty()) requeue(*running_.back(), now_ns);
  for (auto& s : waiting_)
    if (s->asked) requeue(*s, now_ns);  // a late grant must not find it
  grants_.clear();
  lease_under_way_ = false;
  admission_blocked_ = false;
}

void batch_planner::preempt(sequence& s, std::uint64_t now_ns) {
  ++preemptions_;
  release(s, true);
  requeue(s, now_ns);
  admission_blocked_ = true;  // its blocks are for those that run
}

// ---- the others ---------------------------------------------------------------------------------------

// Plans in flight will not be answered. A sequence that was in one with every executor that ended is given up.
void batch_planner::forget_flights() {
  std::vector<sequence*> suspects;
  for (const sent_plan& plan : in_flight_)
    for (const entry& e : plan.entries)
      if (sequence* s = find(e.id); s != nullptr && std::ranges::find(suspects, s) == suspects.end())
        suspects.push_back(s);
  in_flight_.clear();
  stalled_ = false;
  for (sequence* s : suspects) {
    s->survived = 0;
    if (++s->failures > options_.max_failures)
      finish_with(*s, error_code::internal,
                  fmt::format("the device failed {} times with this sequence in its batch", s->failures));
  }
}

// Of the pool at hand only another version is news: it was promoted while the executor was restarted.
void batch_planner::model_loaded(const wire::ModelLoaded& loaded, std::uint64_t now_ns) {
  const bool newer = loaded.pool() == pool_ && !probation_ && loaded.version() > version_.number;
  if (loaded.pool() <= dead_pool_ || (loaded.pool() <= pool_ && !newer)) return;
  if (pool_ != 0) {
    in_flight_.clear();
    stalled_ = false;
    if (newer) {
      recompute_all(now_ns);
      forget_prefixes_ = true;
    } else {
      requeue_all(now_ns);
    }
  }
  if (!newer) {
    proven_ = false;
    ends_.clear();  // the new pool knows none of them
  }
  if (probation_ && loaded.version() != version_.number) raise_alarm("the executor was restarted", now_ns);
  pool_ = loaded.pool();
  blocks_ = loaded.blocks();
  version_ = {loaded.version(), loaded.block_tokens(), loaded.state_bytes() > 0};
}

void batch_planner::executor_here() {
  executor_ = true;
}

// If it has answered under the pool, the pool is gone with it. Else the pool may be its successor's: the words "model
// loaded" and "new executor" come from different actors, in any order. A plan for a wrong pool is dropped there, and the
// right pool is announced sooner or later.
void batch_planner::executor_gone(std::uint64_t now_ns) {
  executor_ = false;
  for (auto& s : running_) s->computed = 0;
  forget_flights();
  for (auto& s : running_) release(*s, false);
  for (auto& s : waiting_) release(*s, false);
  requeue_all(now_ns);
  ends_.clear();
  if (probation_) raise_alarm("the executor ended while it ran it", now_ns);
  if (!proven_) return;
  dead_pool_ = pool_;
  pool_ = 0;
  proven_ = false;
}

void batch_planner::cache_here() {
  cache_ = true;
}

void batch_planner::cache_gone(std::uint64_t now_ns) {
  cache_ = false;
  releases_.clear();
  release_builder_.Clear();
  requeue_all(now_ns);
}

void batch_planner::granted(std::uint64_t lease, const wire::LeaseGranted& answer) {
  if (!lease_under_way_ || lease != lease_) return;
  lease_under_way_ = false;
  epoch_ = answer.epoch();
  for (const wire::BlockGrant* g : *answer.grants()) {
    sequence* s = find(g->sequence());
    if (s == nullptr) continue;  // over meanwhile; its release is on the way
    grants_.push_back(*g);
    s->leased += version_.block_tokens;
    if (g->cached() != 0) s->planned = s->computed = s->planned + version_.block_tokens;
  }
  if (answer.refused() != nullptr)
    for (std::uint64_t id : *answer.refused())
      if (sequence* s = find(id); s != nullptr) {
        s->refused = s->running;
        if (!s->running) admission_blocked_ = true;
      }
  for (auto& r : running_) r->asked = false;
  for (auto i = waiting_.begin(); i != waiting_.end();) {
    sequence& s = **i++;
    if (!s.asked) continue;
    s.asked = false;
    if (s.leased == 0) continue;
    if (s.queued_ns == 0) s.cached_tokens = std::min(s.computed, s.prompt_tokens());
    admit(s);
  }
}

void batch_planner::lease_failed(std::uint64_t lease) {
  if (!lease_under_way_ || lease != lease_) return;
  lease_under_way_ = false;
  for (auto& s : running_) s->asked = false;
  for (auto& s : waiting_) s->asked = false;
  admission_blocked_ = true;  // until a tick
}

void batch_planner::tick(std::uint64_t now_ns) {
  stalled_ = !in_flight_.empty() && now_ns > in_flight_.front().sent_ns + options_.step_timeout_ns;
  for (auto i = by_choice_.begin(); i != by_choice_.end();) {
    sequence& s = *(i++)->second;
    const std::uint64_t deadline = s.submit->deadline_ns();
    if (deadline != 0 && now_ns >= deadline)
      finish_with(s, error_code::deadline_exceeded, "the request's deadline has passed");
    else if (stalled_ && s.running)
      finish_with(s, error_code::unavailable, "the device does not answer; try again later");
    else if (!ready() && !s.running && now_ns > s.waiting_since_ns + options_.unavailable_after_ns)
      finish_with(s, error_code::unavailable, "the model did not become ready in time; try again later");
  }
  admission_blocked_ = false;
  for (auto& s : running_) s->refused = false;
}

// ---- results ------------------------------------------------------------------------------------------

void batch_planner::result(const wire::StepResult& result, std::uint64_t now_ns) {
  const auto sent = std::ranges::find(in_flight_, result.step(), &sent_plan::step);
  if (sent == in_flight_.end()) return;  // of an executor or a plan that was given up
  proven_ = true;
  stalled_ = false;
  ++steps_;
  ++since_switch_.steps;
  sent_plan done = std::move(*sent);
  std::vector<entry>& entries = done.entries;
  if (done.version == version_.number) watch_.step(result.computed_tokens(), result.compute_ns());
  std::vector<entry> skipped;  // plans are answered in order: those before will not be
  for (auto i = in_flight_.begin(); i != sent; ++i)
    skipped.insert(skipped.end(), i->entries.begin(), i->entries.end());
  in_flight_.erase(in_flight_.begin(), std::next(sent));
  for (const entry& e : skipped)
    if (sequence* s = find(e.id); s != nullptr && s->running) apply(*s, e, done, nullptr, now_ns);
  const auto* steps = result.sequences();
  const std::uint32_t count = steps == nullptr ? 0 : steps->size();
  std::uint32_t at = 0;
  for (const entry& e : entries) {
    sequence* s = find(e.id);
    if (s == nullptr || !s->running) continue;
    // Results stand in the order of the plan, without those that had ended.
    std::uint32_t tried = 0;
    while (tried < count && steps->Get(at)->sequence() != e.id) {
      at = at + 1 == count ? 0 : at + 1;
      ++tried;
    }
    apply(*s, e, done, tried < count ? steps->Get(at) : nullptr, now_ns);
  }
  if (probation_ && trouble_.empty()) trouble_ = watch_.alarm().value_or(std::string());
  if (probation_ && !trouble_.empty()) raise_alarm(trouble_, now_ns);
  trouble_.clear();
  entries.clear();
  spare_entries_.push_back(std::move(entries));
}

void batch_planner::apply(sequence& s, const entry& e, const sent_plan& of, const wire::SequenceStep* step,
                          std::uint64_t now_ns) {
  if (step == nullptr || (e.samples && step->token() < 0 && step->error() == error_code::none)) {
    release(s, true);  // the executor does not have it (any more): again from its tokens
    return requeue(s, now_ns);
  }
  if (step->error() != error_code::none) {
    const auto text = step->error_text() == nullptr ? std::string_view{} : step->error_text()->string_view();
    release(s, false);
    if (probation_ && of.version == version_.number) {
      trouble_ = text.empty() ? "a step failed" : text;
      return requeue(s, now_ns);
    }
    ++since_switch_.ended;
    writer_.add_end(s, step->error(), text);
    return forget(s);
  }
  s.computed = std::max(s.computed, e.end);
  if (const auto* prompt = step->prompt(); prompt != nullptr && s.wants_prompt_logprobs())
    for (const wire::TokenLogprob* p : *prompt) s.prompt_logprobs.emplace_back(p->UnPack());
  if (!e.samples) return;
  --s.sampling;
  s.tokens.push_back(step->token());
  if (s.failures > 0 && ++s.survived == 2) s.failures = 0;
  ++generated_tokens_;
  note_token(s, of, *step, now_ns);
  if (s.first_token_ns == 0 && s.generated() == 1)
    s.first_token_ns = now_ns - std::min(now_ns, s.submit->received_ns());
  writer_.add_token(s, *step);
  if (step->finish() == wire::FinishReason::none) return;
  ++since_switch_.ended;
  release(s, true);
  forget(s);
}

// Between two tokens of a sequence, where one version has sampled the one and another the other, lies the pause of the switch.
void batch_planner::note_token(sequence& s, const sent_plan& by, const wire::SequenceStep& step,
                               std::uint64_t now_ns) {
  token_rate_.add(1, now_ns);
  ++since_switch_.tokens;
  if (by.watched && by.version == version_.number) watch_.sampled(step.logprob());
  if (s.last_token_ns != 0) {
    const std::uint64_t gap = now_ns - std::min(now_ns, s.last_token_ns);
    if (s.token_version == by.version)
      token_gaps_ns_.add(static_cast<double>(gap));
    else
      since_switch_.pause_ns = std::max(since_switch_.pause_ns, gap);
  }
  s.last_token_ns = now_ns;
  s.token_version = by.version;
}

}  // namespace troupe
