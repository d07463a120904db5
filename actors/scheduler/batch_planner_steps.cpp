// What goes into leases and plans. Life of the sequences: batch_planner.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "actors/scheduler/batch_planner.hpp"

namespace troupe {

// ---- leases -------------------------------------------------------------------------------------------

std::optional<message<wire::Release>> batch_planner::take_release() {
  if (!has_release()) return std::nullopt;
  const auto items = release_builder_.CreateVector(releases_);
  releases_.clear();
  return message<wire::Release>::finish(release_builder_,
                                        wire::CreateRelease(release_builder_, options_.model.value, items,
                                                            std::exchange(forget_prefixes_, false)));
}

bool batch_planner::fits(sequence& s) {
  const std::uint64_t room = std::uint64_t{blocks_} * version_.block_tokens;
  const std::uint64_t prompt = s.prompt_tokens();
  const std::uint64_t least =
      prompt + std::max<std::uint32_t>(1, std::min(s.submit->min_tokens(), s.submit->max_tokens()));
  if (least > room + 1) {
    finish_with(s, error_code::context_exceeded,
                fmt::format("{} prompt tokens and at least {} more do not fit into a cache of {} tokens",
                            prompt, least - prompt, room));
    return false;
  }
  s.max_tokens =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(s.submit->max_tokens(), room + 1 - prompt));
  if (s.generated() < s.max_tokens) return true;
  finish_with(s, error_code::none, {});  // continued with nothing left to generate
  return false;
}

// Positions that blocks should be there for: what is known or on its way, the next token, and some more.
std::uint32_t batch_planner::wanted_positions(const sequence& s) const {
  const std::uint32_t ahead = s.size() + s.sampling + (s.tight ? 0 : options_.lease_ahead);
  return std::max(s.size(), std::min(s.last_position(), ahead));
}

void batch_planner::collect_growth(std::vector<sequence*>& out, bool& urgent) {
  for (auto& s : running_) {
    if (s->refused || s->leased >= wanted_positions(*s)) continue;
    out.push_back(s.get());
    urgent = urgent || s->leased < std::min(s->last_position(), s->planned + 2);
  }
}

void batch_planner::collect_admissions(std::vector<sequence*>& out) {
  if (admission_blocked_) return;
  std::size_t places =
      options_.max_sequences - std::min<std::size_t>(options_.max_sequences, running_.size());
  for (auto i = waiting_.begin(); i != waiting_.end() && places > 0;) {
    sequence& s = **i++;
    if (!fits(s)) continue;
    out.push_back(&s);
    --places;
  }
}

// One lease at a time. Blocks are asked for in time, for all that will want some soon, so that most steps need no lease.
std::optional<message<wire::Lease>> batch_planner::next_lease() {
  if (!ready() || lease_under_way_) return std::nullopt;
  items_.clear();
  bool urgent = false;
  collect_growth(items_, urgent);
  const std::size_t growing = items_.size();
  collect_admissions(items_);
  if (!urgent && items_.size() == growing) return std::nullopt;
  lease_under_way_ = true;
  ++lease_;
  return write_lease(items_);
}

message<wire::Lease> batch_planner::write_lease(const std::vector<sequence*>& items) {
  std::vector<flatbuffers::Offset<wire::LeaseItem>> offsets;
  offsets.reserve(items.size());
  for (sequence* s : items) {
    s->asked = true;
    // Positions found in the cache have no logits, and recurrent state does not stand behind them.
    const bool may_reuse = s->leased == 0 && !s->wants_prompt_logprobs() && !version_.recurrent;
    const auto prefix = may_reuse ? builder_.CreateVector(s->tokens) : 0;
    offsets.push_back(wire::CreateLeaseItem(builder_, s->id.value, wanted_positions(*s), prefix));
  }
  const auto vector = builder_.CreateVector(offsets);
  return message<wire::Lease>::finish(
      builder_, wire::CreateLease(builder_, options_.model.value, vector, options_.incarnation, pool_,
                                  version_.block_tokens));
}

// ---- plans --------------------------------------------------------------------------------------------

// Whoever wants its tokens has too many waiting already.
bool batch_planner::held_up(const sequence& s) const {
  return writer_.backlog(s.destination) >= options_.backlog_tokens;
}

// The cache is full and a sequence cannot go on: first nothing is leased ahead any more, then the newest gives its blocks back.
void batch_planner::make_room(std::uint64_t now_ns) {
  if (lease_under_way_) return;
  const auto stuck = [this](const auto& s) { return s->refused && s->starved() && !held_up(*s); };
  const auto first = std::ranges::find_if(running_, stuck);
  if (first == running_.end()) return;
  if ((*first)->tight) return preempt(*running_.back(), now_ns);
  for (auto& s : running_) {
    s->tight = true;
    s->refused = false;
  }
}

const sequence* batch_planner::suspect() const {
  const auto found = std::ranges::find_if(
      running_, [this](const auto& s) { return s->failures >= options_.suspicious && !held_up(*s); });
  return found == running_.end() ? nullptr : found->get();
}

bool batch_planner::only_in_flight(const sequence& s) const {
  return std::ranges::all_of(in_flight_, [&](const sent_plan& plan) {
    return std::ranges::all_of(plan.entries, [&](const entry& e) { return e.id == s.id.value; });
  });
}

void batch_planner::plan_decodes(sent_plan& plan, const sequence* alone) {
  decodes_.clear();
  for (auto& s : running_) {
    if ((alone != nullptr && s.get() != alone) || held_up(*s)) continue;
    if (!s->may_decode() || s->planned >= s->leased) continue;
    decodes_.push_back(s->id.value);
    ++s->planned;
    ++s->sampling;
    plan.entries.push_back({s->id.value, s->planned, true});
  }
}

void batch_planner::plan_chunks(sent_plan& plan, const sequence* alone, std::uint64_t now_ns) {
  chunks_.clear();
  const auto decodes = static_cast<std::uint32_t>(decodes_.size());
  std::uint32_t budget = options_.step_tokens > decodes ? options_.step_tokens - decodes : 1;
  for (auto& s : running_) {
    if (s->decoding || budget == 0 || (alone != nullptr && s.get() != alone) || held_up(*s)) continue;
    const std::uint32_t tokens = std::min(budget, s->size() - s->planned);
    chunks_.emplace_back(s->id.value, s->planned, tokens);
    budget -= tokens;
    s->planned += tokens;
    s->decoding = s->planned == s->size();
    s->sampling += s->decoding ? 1 : 0;
    plan.entries.push_back({s->id.value, s->planned, s->decoding});
    if (s->queued_ns == 0)
      s->queued_ns = std::max<std::uint64_t>(1, now_ns - std::min(now_ns, s->submit->received_ns()));
  }
}

std::optional<message<wire::StepPlan>> batch_planner::next_plan(std::uint64_t now_ns) {
  if (!ready() || in_flight_.size() >= options_.plans_in_flight) return std::nullopt;
  make_room(now_ns);
  const sequence* alone = suspect();
  if (alone != nullptr && !only_in_flight(*alone)) return std::nullopt;
  sent_plan plan{next_step_, now_ns, {}, version_.number, probation_ || now_ns < observed_until_ns_};
  if (!spare_entries_.empty()) {
    plan.entries = std::move(spare_entries_.back());
    spare_entries_.pop_back();
  }
  plan_decodes(plan, alone);
  plan_chunks(plan, alone, now_ns);
  if (plan.entries.empty() && ends_.empty()) {
    spare_entries_.push_back(std::move(plan.entries));
    return std::nullopt;
  }
  ++next_step_;
  auto out = write_plan(plan);
  in_flight_.push_back(std::move(plan));
  return out;
}

flatbuffers::Offset<wire::BeginSequence> batch_planner::write_begin(const sequence& s) {
  const wire::Submit& submit = *s.submit;
  const auto history = builder_.CreateVector(s.tokens);
  const std::unique_ptr<wire::SamplingT> rules(submit.sampling()->UnPack());
  const auto sampling = wire::Sampling::Pack(builder_, rules.get());
  const auto* stops = submit.stop_ids();
  const auto stop_ids = stops == nullptr ? 0 : builder_.CreateVector(stops->data(), stops->size());
  return wire::CreateBeginSequence(builder_, s.id.value, history, s.prompt_tokens(), sampling, stop_ids,
                                   s.max_tokens, submit.min_tokens(), submit.top_logprobs(),
                                   s.wants_prompt_logprobs() ? submit.prompt_logprobs() : -1);
}

message<wire::StepPlan> batch_planner::write_plan(const sent_plan& plan) {
  std::vector<flatbuffers::Offset<wire::BeginSequence>> begins;
  for (auto& s : running_)
    if (!s->begun) {
      begins.push_back(write_begin(*s));
      s->begun = true;
    }
  std::erase_if(grants_, [this](const wire::BlockGrant& g) { return find(g.sequence()) == nullptr; });
  const auto begin = begins.empty() ? 0 : builder_.CreateVector(begins);
  const auto grow = grants_.empty() ? 0 : builder_.CreateVectorOfStructs(grants_);
  const auto prefill = chunks_.empty() ? 0 : builder_.CreateVectorOfStructs(chunks_);
  const auto decode = decodes_.empty() ? 0 : builder_.CreateVector(decodes_);
  const auto end = ends_.empty() ? 0 : builder_.CreateVector(ends_);
  grants_.clear();
  ends_.clear();
  return message<wire::StepPlan>::finish(
      builder_, wire::CreateStepPlan(builder_, options_.model.value, plan.step, begin, grow, prefill, decode,
                                     end, options_.incarnation, pool_, epoch_, plan.version, plan.watched));
}

}  // namespace troupe
