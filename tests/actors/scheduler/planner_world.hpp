// A planner with all that it talks to, without actors: a block pool, a step runner on the remembering backend, and the
// mailboxes between them. Nothing moves until the test says so, so that any order of events can be tried.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "actors/cache_manager/block_pool.hpp"
#include "actors/executor/step_runner.hpp"
#include "actors/scheduler/batch_planner.hpp"
#include "tests/support/submit.hpp"

namespace troupe::test {

struct stream_log {
  recall_request request;
  wire::SubmitT submit;
  std::vector<std::int32_t> tokens;
  std::vector<std::unique_ptr<wire::TokenLogprobT>> prompt;
  std::uint32_t deltas = 0;
  std::uint32_t prompts = 0;  // deltas that brought prompt log-probabilities
  bool over = false;
  bool aborted = false;
  wire::FinishReason finish = wire::FinishReason::none;
  error_code error = error_code::none;
  std::string text;
  std::int32_t stop_token = -1;
  std::optional<wire::SequenceUsage> usage;
};

struct world_options {
  planner_options planner;
  recall_options device;
  bool prefix_caching = true;
  bool slow_reader = false;  // destination 0 takes a batch of tokens only as an event of its own
};

class planner_world {
 public:
  static constexpr std::uint32_t vocabulary = 40;

  explicit planner_world(world_options o = {})
      : options(std::move(o)),
        pool({.blocks = options.device.blocks, .prefix_caching = options.prefix_caching}) {
    pool.set_block_tokens({0}, options.device.block_tokens);
    planner.emplace(options.planner);
    options.planner.unavailable_after_ns = options.planner.unavailable_after_ns;
    start_executor();
    planner->cache_here();
    planner->executor_here();
    announce_model();
  }

  // ---- requests
  stream_log& submit(std::uint64_t stream, recall_request r) { return submit(submit_of(stream, r), r); }
  stream_log& submit(wire::SubmitT s, recall_request r = {}) {
    stream_log& log = streams[s.stream];
    log.request = std::move(r);
    planner->submit(0, pack(s), now);
    log.submit = std::move(s);
    pump();
    return log;
  }
  void abort(std::uint64_t stream) {
    planner->abort(*abort_of(stream));
    streams[stream].over = streams[stream].aborted = true;
    pump();
  }

  // ---- one event each; false: there was none
  bool serve_cache() {
    if (cache_box.empty()) return false;
    auto [number, lease, release] = std::move(cache_box.front());
    cache_box.pop_front();
    if (release) {
      for (const auto* item : *release->items()) {
        const auto* ids = item->computed_ids();
        pool.release({{0}, {item->sequence()}},
                     ids == nullptr ? std::span<const std::int32_t>{} : std::span(ids->data(), ids->size()));
      }
      if (release->forget_prefixes()) pool.drop_prefixes({0});
      return true;
    }
    wire::LeaseGrantedT answer;
    answer.epoch = epoch;
    bool full = lease->pool() != pool_number;
    if (lease->block_tokens() != 0) pool.set_block_tokens({0}, lease->block_tokens());
    std::vector<granted_block> granted;
    for (const auto* item : *lease->items()) {
      granted.clear();
      const auto* ids = item->prefix_ids();
      full = full || !pool.lease({{0}, {item->sequence()}}, item->tokens(),
                                 ids == nullptr ? std::span<const std::int32_t>{}
                                                : std::span(ids->data(), ids->size()),
                                 granted);
      if (full) answer.refused.push_back(item->sequence());
      for (const auto& g : granted)
        answer.grants.emplace_back(item->sequence(), g.block.value, static_cast<std::uint8_t>(g.cached));
    }
    EXPECT_EQ(pool.inconsistency(), nullptr);
    planner->granted(number, *message<wire::LeaseGranted>::pack(answer));
    pump();
    return true;
  }
  bool run_plan() {
    if (plan_box.empty()) return false;
    const auto plan = plan_box.front();
    plan_box.pop_front();
    if (plan->pool() != pool_number) return true;  // as the executor does
    if (plan->epoch() < newest_epoch) {
      result_box.push_back(runner->empty_result(*plan));
      return true;
    }
    newest_epoch = plan->epoch();
    if (poison && touches_poison(*plan)) {
      ++executors_killed;
      restart_executor();
      return true;
    }
    if (plan->version() != running_version) {
      running_version = plan->version();
      runner->use(versions.at(running_version));
    }
    auto done = runner->run(*plan);
    EXPECT_TRUE(done.has_value());
    plans_run.emplace_back(plan->UnPack());
    result_box.push_back(*done);
    return true;
  }
  // Sequences whose prompt begins with `poison` kill the executor: each step of theirs, or only those that decode.
  bool touches_poison(const wire::StepPlan& plan) {
    if (plan.begin() != nullptr)
      for (const auto* begin : *plan.begin())
        if (begin->history()->Get(0) == *poison) poisoned.insert(begin->sequence());
    bool hit = false;
    if (plan.prefill() != nullptr && !poison_decodes_only)
      for (const auto* chunk : *plan.prefill()) hit = hit || poisoned.contains(chunk->sequence());
    if (plan.decode() != nullptr)
      for (const auto id : *plan.decode()) hit = hit || poisoned.contains(id);
    return hit;
  }
  bool take_result() {
    if (result_box.empty()) return false;
    const auto result = result_box.front();
    result_box.pop_front();
    planner->result(*result, now);
    pump();
    return true;
  }
  bool read_batch() {
    if (batches_unread == 0) return false;
    --batches_unread;
    planner->tokens_taken(0);
    pump();
    return true;
  }
  void tick(std::uint64_t forward_ns = 50'000'000) {
    now += forward_ns;
    planner->tick(now);
    pump();
  }
  bool any_event(std::mt19937& random) {
    const auto first = random() % 4;
    for (unsigned i = 0; i < 4; ++i) {
      const auto which = (first + i) % 4;
      if (which == 0 ? serve_cache() : which == 1 ? run_plan() : which == 2 ? take_result() : read_batch())
        return true;
    }
    return false;
  }
  // Until nothing is left to do. Fails if that does not come to an end.
  void finish() {
    std::mt19937 random(1);
    for (int quiet = 0, round = 0; quiet < 3; ++round) {
      ASSERT_LT(round, 200'000) << planner->waiting() << " waiting, " << planner->running() << " running";
      if (any_event(random)) {
        quiet = 0;
      } else if (planner->idle()) {
        ++quiet;
      } else {
        ASSERT_LT(quiet_rounds++, 5000)
            << planner->waiting() << " waiting, " << planner->running() << " running";
        tick();
      }
    }
  }

  // ---- restarts
  void kill_executor() {
    plan_box.clear();
    runner.reset();
    planner->executor_gone(now);
    pump();
  }
  void start_executor() {
    ++pool_number;
    options.device.state_slots = options.planner.max_sequences;
    versions = {{0, std::make_shared<recall_model>(options.device, vocabulary)}};
    running_version = 0;
    runner =
        std::make_unique<step_runner>(model_id{0}, versions.at(0), vocabulary, options.planner.max_sequences);
  }

  // ---- versions
  // One that finds in the blocks what the one before has written there; or one with blocks of its own, of another size.
  void add_version(std::uint32_t number) { versions[number] = versions.at(planner->version()); }
  void add_version(std::uint32_t number, const recall_options& device) {
    versions[number] = std::make_shared<recall_model>(device, vocabulary);
  }
  batch_planner::moved switch_to(wire::SwitchVersionT wanted) {
    wanted.block_tokens = versions.at(wanted.version)->block_tokens();
    wanted.state_bytes = versions.at(wanted.version)->state_bytes();
    const auto moved = planner->switch_to(*message<wire::SwitchVersion>::pack(wanted), now);
    pump();
    return moved;
  }
  std::string alarm() {
    const auto seen = planner->watch(now);
    return seen->alarm() == nullptr ? std::string() : seen->alarm()->str();
  }
  void announce_model() {
    if (pool_number > pool_seen) pool.forget();
    pool_seen = pool_number;
    wire::ModelLoadedT m;
    m.block_tokens = options.device.block_tokens;
    m.blocks = options.device.blocks;
    m.pool = pool_number;
    m.state_bytes = runner == nullptr ? 0 : runner->compiled().state_bytes();
    planner->model_loaded(*message<wire::ModelLoaded>::pack(m), now);
    pump();
  }
  void announce_executor() {
    planner->executor_here();
    pump();
  }
  void restart_executor() {
    kill_executor();
    start_executor();
    announce_executor();
    announce_model();
  }
  void restart_cache() {
    cache_box.clear();
    pool.forget();
    ++epoch;
    planner->cache_gone(now);
    planner->cache_here();
    pump();
  }
  void restart_scheduler() {
    result_box.clear();
    cache_box.clear();
    batches_unread = 0;
    pool.release_model({0});
    pool.drop_prefixes({0});
    ++options.planner.incarnation;
    planner.emplace(options.planner);
    planner->cache_here();
    planner->executor_here();
    announce_model();
    for (auto& [stream, log] : streams) {
      if (log.over) continue;
      log.submit.generated = log.tokens;
      planner->submit(0, pack(log.submit), now);
    }
    pump();
  }

  void expect_exact(std::uint64_t stream) {
    const stream_log& log = streams.at(stream);
    EXPECT_TRUE(log.over) << "stream " << stream;
    EXPECT_EQ(log.error, error_code::none) << "stream " << stream << ": " << log.text;
    EXPECT_EQ(log.tokens, expected_tokens(log.request, vocabulary)) << "stream " << stream;
  }
  void expect_everything_free() {
    EXPECT_EQ(pool.free_blocks(), pool.blocks());
    EXPECT_EQ(pool.sequences(), 0u);
    EXPECT_EQ(runner->sequences(), 0u);
    EXPECT_EQ(runner->free_slots(), options.planner.max_sequences);
  }

  void pump() {
    for (bool more = true; more;) {
      more = false;
      if (auto release = planner->take_release()) cache_box.push_back({0, {}, *release});
      if (auto lease = planner->next_lease()) cache_box.push_back({planner->lease(), *lease, {}});
      if (auto plan = planner->next_plan(now)) {
        plan_box.push_back(*plan);
        more = true;
      }
      more = more || planner->has_release();
    }
    EXPECT_LE(planner->in_flight(), options.planner.plans_in_flight);
    std::vector<token_batch> batches;
    planner->take_tokens(batches);
    for (const auto& b : batches) {
      for (const auto* d : *b.batch->deltas()) take(*d);
      if (options.slow_reader && b.destination == 0)
        ++batches_unread;
      else
        planner->tokens_taken(b.destination);
    }
  }
  void take(const wire::TokenDelta& d) {
    stream_log& log = streams[d.stream()];
    if (log.aborted) return;  // what waited still comes
    EXPECT_FALSE(log.over) << "stream " << d.stream() << " goes on behind its end";
    if (d.tokens() != nullptr)
      for (const auto* t : *d.tokens()) log.tokens.push_back(t->token());
    ++log.deltas;
    if (d.prompt() != nullptr) {
      ++log.prompts;
      for (const auto* p : *d.prompt()) log.prompt.emplace_back(p->UnPack());
    }
    log.finish = d.finish();
    log.error = d.error();
    log.stop_token = d.stop_token();
    if (d.error_text() != nullptr) log.text = d.error_text()->str();
    if (d.usage() != nullptr) log.usage = *d.usage();
    log.over = d.finish() != wire::FinishReason::none || d.error() != error_code::none;
  }

  struct cache_mail {
    std::uint64_t number = 0;
    message<wire::Lease> lease;
    message<wire::Release> release;
  };

  world_options options;
  block_pool pool;
  std::unique_ptr<step_runner> runner;
  std::map<std::uint32_t, std::shared_ptr<recall_model>> versions;
  std::uint32_t running_version = 0;
  std::optional<batch_planner> planner;
  std::deque<cache_mail> cache_box;
  std::deque<message<wire::StepPlan>> plan_box;
  std::deque<message<wire::StepResult>> result_box;
  std::vector<std::unique_ptr<wire::StepPlanT>> plans_run;
  std::map<std::uint64_t, stream_log> streams;
  std::uint64_t now = 1'000'000'000;
  std::uint64_t pool_number = 0, pool_seen = 0;
  std::uint64_t epoch = 1, newest_epoch = 0;
  int batches_unread = 0;
  int quiet_rounds = 0;
  std::optional<std::int32_t> poison;
  bool poison_decodes_only = false;
  std::set<std::uint64_t> poisoned;
  int executors_killed = 0;
};

}  // namespace troupe::test
