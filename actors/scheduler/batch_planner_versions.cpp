// Versions of the Program: switches between them, probation, alarms. Life of the sequences: batch_planner.cpp.
#include <utility>

#include "actors/scheduler/batch_planner.hpp"

namespace troupe {

// Those whose lease is under way: they may be granted what another Program has computed.
void batch_planner::requeue_asked(std::uint64_t now_ns) {
  for (auto& s : waiting_) {
    if (!s->asked) continue;
    release(*s, false);
    requeue(*s, now_ns);
  }
}

// Results of plans in flight will find nobody. What they sample is sampled again.
std::uint32_t batch_planner::recompute_all(std::uint64_t now_ns) {
  const auto count = running();
  in_flight_.clear();
  while (!running_.empty()) {
    release(*running_.back(), false);
    requeue(*running_.back(), now_ns);
  }
  requeue_asked(now_ns);
  admission_blocked_ = false;
  return count;
}

batch_planner::moved batch_planner::switch_to(const wire::SwitchVersion& wanted, std::uint64_t now_ns) {
  probation_ = wanted.probation();
  held_ = false;
  moved out;
  const version_watch::limits allowed{wanted.max_step_ratio(), wanted.max_logprob_drift()};
  if (wanted.version() == version_.number) {
    before_.reset();
    if (probation_) since_switch_ = {};
    return out;
  }
  alarm_.clear();
  since_switch_ = {};
  before_ ? watch_.restored() : watch_.replaced(allowed);
  before_.reset();
  if (probation_) before_ = version_;
  if (wanted.recompute()) {
    out.recomputed = recompute_all(now_ns);
  } else {
    out.continued = running();
    if (!wanted.keeps_prefixes()) {
      requeue_asked(now_ns);
      for (auto& s : running_) s->mixed = true;
    }
  }
  forget_prefixes_ = forget_prefixes_ || !wanted.keeps_prefixes();
  version_ = {wanted.version(), wanted.block_tokens(), wanted.state_bytes() > 0};
  for (auto i = by_choice_.begin(); pool_ != 0 && i != by_choice_.end();) fits(*(i++)->second);
  return out;
}

// What the version has computed is not trusted any more.
void batch_planner::raise_alarm(std::string why, std::uint64_t now_ns) {
  alarm_ = std::move(why);
  probation_ = false;
  recompute_all(now_ns);
  forget_prefixes_ = true;
  held_ = !before_;
  if (!before_) return;
  version_ = *before_;
  before_.reset();
  watch_.restored();
}

message<wire::WatchReport> batch_planner::watch(std::uint64_t now_ns) {
  observed_until_ns_ = now_ns + 2'000'000'000;
  flatbuffers::FlatBufferBuilder b(256);
  const auto alarm = alarm_.empty() ? 0 : b.CreateString(alarm_);
  return message<wire::WatchReport>::finish(
      b, wire::CreateWatchReport(b, version_.number, alarm, since_switch_.steps, since_switch_.tokens,
                                 since_switch_.ended, since_switch_.pause_ns,
                                 static_cast<std::uint64_t>(token_gaps_ns_.median()), watch_.step_ratio(),
                                 watch_.logprob_before(), watch_.logprob_after()));
}

}  // namespace troupe
