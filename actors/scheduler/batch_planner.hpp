// Decides which sequences of a model compute what in each step: continuous batching with chunked prefill over
// leased cache blocks. The thinking of the scheduler without its mailbox: time is passed in, messages are taken out.
//
// - Sequences enter the batch in order of arrival as soon as a place and blocks for all their tokens are there.
// - A step holds one token for every decoding sequence, then chunks of prompts, oldest first, up to a budget of tokens.
// - Two plans may be in flight. The second continues behind tokens that are not known yet; a sequence that turns out to
//   have ended is left out by the executor.
// - Blocks are leased ahead. When the cache is full the newest sequence goes back to the front of the queue; it is
//   computed again from its tokens later. What was sampled stays; what will be sampled does not depend on it.
// - Whatever restarts, sequences go on the same way: back to the queue, in order, with their tokens.
// - A sequence that kills the executor ends alone: those that were in flight when it ended twice run one by one, until each
//   has sampled two tokens (one behind its prompt, one by decoding). The one at fault is given up; it costs
//   max_failures + 1 restarts.
// - Each plan names the version of the Program that it is to be run with. A switch lies between two plans: sequences stay
//   where they are, or go back to the queue with their tokens. On probation no sequence ends of what the version does wrong:
//   an alarm brings the version before back, or holds all steps if there is none.
//
// Use: after any event call take_release, next_lease and next_plan until they give nothing, then take_tokens.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "actors/scheduler/sequence.hpp"
#include "actors/scheduler/token_writer.hpp"
#include "actors/scheduler/version_watch.hpp"

namespace troupe {

struct planner_options {
  model_id model;
  std::uint64_t incarnation = 1;     // differs after each restart of the scheduler
  std::uint32_t max_sequences = 64;  // in the batch
  std::uint32_t step_tokens = 512;   // of a step, decodes and chunks together
  std::uint32_t queue_limit = 1024;  // sequences that wait; those that go back to the queue do not count
  std::uint32_t plans_in_flight = 2;
  std::uint32_t lease_ahead = 8;  // tokens; blocks are asked for that early
  // The sequences of a destination stand still while that many tokens wait for it and it does not take them.
  std::uint32_t backlog_tokens = 16'384;
  std::uint32_t max_failures =
      3;                         // executors that may end with a sequence in flight before it is given up ...
  std::uint32_t suspicious = 2;  // ... and as many before it has to run alone
  // A sequence waits that long for a model that is not ready.
  std::uint64_t unavailable_after_ns = 120'000'000'000;
  // The model is not ready when a step takes longer.
  std::uint64_t step_timeout_ns = 300'000'000'000;
  std::size_t aborts_remembered = 16'384;  // streams whose abort may arrive before they do
};

class batch_planner {
 public:
  explicit batch_planner(const planner_options& options);

  // ---- requests ----
  void submit(std::uint32_t destination, message<wire::Submit> request, std::uint64_t now_ns);
  // A stream that was aborted as a whole is never taken again: its number is not given twice.
  void abort(const wire::Abort& request);
  void abort_destination(std::uint32_t destination);

  // ---- the others ----
  void model_loaded(const wire::ModelLoaded& loaded, std::uint64_t now_ns);
  void executor_here();
  void executor_gone(std::uint64_t now_ns);  // with all K/V
  void cache_here();
  void cache_gone(std::uint64_t now_ns);  // with all leases
  void granted(std::uint64_t lease, const wire::LeaseGranted& answer);
  void lease_failed(std::uint64_t lease);
  void result(const wire::StepResult& result, std::uint64_t now_ns);
  void tick(std::uint64_t now_ns);  // now and then: deadlines, and another try where there was no room

  // ---- versions of the Program ----
  struct moved {
    std::uint32_t continued = 0;
    std::uint32_t recomputed = 0;
  };
  // To the version that runs already: its probation begins or ends.
  moved switch_to(const wire::SwitchVersion& wanted, std::uint64_t now_ns);
  // Who asks is interested: log-probabilities are looked at for some seconds more.
  message<wire::WatchReport> watch(std::uint64_t now_ns);

  // ---- what is to be sent, in this order ----
  std::optional<message<wire::Release>> take_release();
  bool has_release() const { return !releases_.empty() || forget_prefixes_; }
  std::optional<message<wire::Lease>> next_lease();  // its number is lease() from then on
  std::uint64_t lease() const { return lease_; }
  std::optional<message<wire::StepPlan>> next_plan(std::uint64_t now_ns);
  // For destinations that may have another batch; each batch is to be answered by tokens_taken.
  void take_tokens(std::vector<token_batch>& out) { writer_.take(out); }
  void tokens_taken(std::uint32_t destination) { writer_.taken(destination); }

  // ---- status ----
  bool idle() const { return waiting_.empty() && running_.empty(); }
  bool ready() const { return executor_ && cache_ && pool_ != 0 && !stalled_ && !held_; }
  std::uint32_t waiting() const { return static_cast<std::uint32_t>(waiting_.size()); }
  std::uint32_t running() const { return static_cast<std::uint32_t>(running_.size()); }
  std::uint32_t in_flight() const { return static_cast<std::uint32_t>(in_flight_.size()); }
  std::uint64_t generated_tokens() const { return generated_tokens_; }
  std::uint64_t steps() const { return steps_; }
  std::uint64_t next_step() const { return next_step_; }
  std::uint64_t preemptions() const { return preemptions_; }
  std::uint64_t recoveries() const { return recoveries_; }
  std::uint64_t pool() const { return pool_; }
  std::uint32_t version() const { return version_.number; }
  double tokens_per_second(std::uint64_t now_ns) const { return token_rate_.per_second(now_ns); }

 private:
  struct entry {  // a sequence's part in a plan
    std::uint64_t id = 0;
    std::uint32_t end = 0;  // positions [0, end) are computed with it
    bool samples = false;
  };
  struct sent_plan {
    std::uint64_t step = 0;
    std::uint64_t sent_ns = 0;
    std::vector<entry> entries;
    std::uint32_t version = 0;
    bool watched = false;
  };
  struct program_version {
    std::uint32_t number = 0;
    std::uint32_t block_tokens = 0;
    bool recurrent = false;  // keeps state beside K/V: cached K/V alone does not save computing positions
  };

  // life of a sequence
  void remember_aborted(std::uint64_t stream);
  sequence* find(std::uint64_t id);
  void admit(sequence& s);
  void forget(sequence& s);  // it is over
  void drop(sequence& s);    // over here, the executor does not know yet
  void finish_with(sequence& s, error_code error, std::string_view text);
  void requeue(sequence& s, std::uint64_t now_ns);
  void requeue_all(std::uint64_t now_ns);
  void preempt(sequence& s, std::uint64_t now_ns);
  void release(const sequence& s, bool keep_prefix);
  bool fits(sequence& s);  // else it is finished with context_exceeded, or with nothing left to generate
  void forget_flights();

  // versions
  std::uint32_t recompute_all(std::uint64_t now_ns);
  void requeue_asked(std::uint64_t now_ns);
  void raise_alarm(std::string why, std::uint64_t now_ns);
  void note_token(sequence& s, const sent_plan& by, const wire::SequenceStep& step, std::uint64_t now_ns);

  // making a plan
  bool held_up(const sequence& s) const;
  const sequence* suspect() const;  // has to run alone; null = all may run
  bool only_in_flight(const sequence& s) const;
  void collect_growth(std::vector<sequence*>& out, bool& urgent);
  void collect_admissions(std::vector<sequence*>& out);
  message<wire::Lease> write_lease(const std::vector<sequence*>& items);
  std::uint32_t wanted_positions(const sequence& s) const;
  void make_room(std::uint64_t now_ns);
  // `alone`: nobody else takes part; may be null.
  void plan_decodes(sent_plan& plan, const sequence* alone);
  void plan_chunks(sent_plan& plan, const sequence* alone, std::uint64_t now_ns);
  message<wire::StepPlan> write_plan(const sent_plan& plan);
  flatbuffers::Offset<wire::BeginSequence> write_begin(const sequence& s);
  void apply(sequence& s, const entry& e, const sent_plan& of, const wire::SequenceStep* step,
             std::uint64_t now_ns);

  planner_options options_;
  bool executor_ = false;
  bool cache_ = false;
  bool stalled_ = false;
  bool lease_under_way_ = false;
  std::uint64_t lease_ = 0;         // number of the last lease
  bool admission_blocked_ = false;  // no room for the first in the queue; until blocks are freed
  std::uint64_t pool_ = 0;          // 0 = no model
  std::uint64_t dead_pool_ = 0;     // pools up to this one are gone
  bool proven_ = false;             // the executor has answered under pool_
  std::uint64_t epoch_ = 0;
  std::uint32_t blocks_ = 0;

  program_version version_;
  std::optional<program_version> before_;  // to go back to, while version_ is on probation
  bool probation_ = false;
  bool held_ = false;    // an alarm, and no version to go back to
  std::string alarm_;    // of the version that was given up last; empty = none since the last switch
  std::string trouble_;  // what a version on probation did wrong in the result at hand
  bool forget_prefixes_ = false;
  std::uint64_t observed_until_ns_ = 0;
  version_watch watch_;
  struct {
    std::uint64_t steps = 0, tokens = 0, ended = 0, pause_ns = 0;
  } since_switch_;
  recent_numbers token_gaps_ns_;
  rate_meter token_rate_;

  sequence_list waiting_;  // in order of arrival
  sequence_list running_;  // in order of arrival
  std::unordered_map<std::uint64_t, sequence*> by_id_;
  std::map<std::pair<std::uint64_t, std::uint32_t>, sequence*> by_choice_;  // stream, choice
  std::unordered_set<std::uint64_t> aborted_;
  std::deque<std::uint64_t> aborted_in_order_;
  std::uint64_t next_id_ = 1;
  std::uint64_t next_arrival_ = 1;
  std::uint64_t next_step_ = 1;

  std::deque<sent_plan> in_flight_;
  std::vector<wire::BlockGrant> grants_;  // not yet told to the executor
  std::vector<std::uint64_t> ends_;       // not yet told to the executor
  token_writer writer_;
  flatbuffers::FlatBufferBuilder release_builder_{1024};
  std::vector<flatbuffers::Offset<wire::ReleaseItem>> releases_;

  std::uint64_t generated_tokens_ = 0, steps_ = 0, preemptions_ = 0, recoveries_ = 0;

  // Kept for their memory.
  flatbuffers::FlatBufferBuilder builder_{4096};
  std::vector<std::vector<entry>> spare_entries_;
  std::vector<wire::PrefillChunk> chunks_;
  std::vector<std::uint64_t> decodes_;
  std::vector<sequence*> items_;
};

}  // namespace troupe
