#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "actors/scheduler/scheduler.hpp"
#include "tests/support/engine_actors.hpp"

namespace troupe {
namespace {

using test::engine_actors;

void submit_some(engine_actors& w, std::uint64_t count = 4) {
  for (std::uint64_t s = 1; s <= count; ++s) {
    std::vector<std::int32_t> prompt;
    for (std::uint64_t i = 0; i < 3 + 2 * s; ++i)
      prompt.push_back(static_cast<std::int32_t>((i * s + 1) % engine_actors::vocabulary));
    w.submit(s, {.prompt = prompt, .seed = s, .max_tokens = 6});
  }
}

TEST(Scheduler, GivesEachStreamItsTokens) {
  engine_actors w;
  submit_some(w);
  w.finish();
  w.expect_exact();
  const auto status = w.ask<wire::SchedulerStatus>(w.scheduler);
  EXPECT_EQ(status->generated_tokens(), 24u);
  EXPECT_EQ(status->running(), 0u);
  EXPECT_TRUE(status->ready());
  EXPECT_GE(status->steps(), 6u);
}

TEST(Scheduler, KeepsRequestsUntilTheModelIsReady) {
  engine_actors w;
  w.kill("executor");
  w.run_all();
  submit_some(w);
  w.run_all();
  auto status = w.ask<wire::SchedulerStatus>(w.scheduler);
  EXPECT_EQ(status->waiting(), 4u);
  EXPECT_FALSE(status->ready());
  w.spawn("executor");
  w.announce("executor");
  w.finish();
  w.expect_exact();
}

TEST(Scheduler, EndsRequestsThatWaitTooLongForAModel) {
  engine_actors w;
  w.kill("executor");
  submit_some(w);
  w.finish();
  for (const auto& [stream, s] : *w.streams) EXPECT_EQ(s.error, error_code::unavailable);
}

TEST(Scheduler, DropsTheSequencesOfATokenizerThatEnds) {
  engine_actors w;
  submit_some(w);
  for (int i = 0; i < 25; ++i) w.run_one();
  w.stop(w.tokenizer);
  w.run_all();
  const auto status = w.ask<wire::SchedulerStatus>(w.scheduler);
  EXPECT_EQ(status->running() + status->waiting(), 0u);
  EXPECT_EQ(w.ask<wire::CacheStatus>(w.cache_manager)->free_blocks(), w.device.blocks);
}

// Takes no batch until it is told to.
struct slow_tokenizer_state {
  std::vector<caf::response_promise> owed;
  std::uint32_t batches = 0, tokens = 0;
};
caf::behavior slow_tokenizer(caf::stateful_actor<slow_tokenizer_state>* self,
                             std::shared_ptr<slow_tokenizer_state*> seen) {
  *seen = &self->state;
  return {[self](scheduler_actor to, const message<wire::Submit>& submit) { self->send(to, submit); },
          [self](const message<wire::TokenBatch>& batch) {
            ++self->state.batches;
            for (const auto* d : *batch->deltas())
              self->state.tokens += d->tokens() == nullptr ? 0 : d->tokens()->size();
            self->state.owed.push_back(self->make_response_promise());
            return self->state.owed.back();
          },
          [self](tick_atom) {
            for (auto& owed : std::exchange(self->state.owed, {})) owed.deliver(caf::unit);
          }};
}

TEST(Scheduler, SendsATokenizerThatDoesNotKeepUpTwoBatchesAndThenAllThatWaited) {
  engine_actors w;
  auto seen = std::make_shared<slow_tokenizer_state*>();
  const auto reader = w.system.spawn(slow_tokenizer, seen);
  caf::anon_send(reader, w.scheduler,
                 test::pack(test::submit_of(1, {.prompt = {1, 2, 3}, .max_tokens = 12})));
  w.run_all();
  slow_tokenizer_state& state = **seen;
  EXPECT_EQ(state.batches, 2u);
  EXPECT_EQ(w.ask<wire::SchedulerStatus>(w.scheduler)->generated_tokens(), 12u);
  caf::anon_send(reader, tick_atom_v);
  w.run_all();
  EXPECT_EQ(state.batches, 3u);
  EXPECT_EQ(state.tokens, 12u);
  caf::anon_send(reader, tick_atom_v);
  w.stop(reader);
  w.run_all();
}

TEST(Scheduler, LeavesThePoolFullAfterAThousandAborts) {
  engine_actors w;
  std::mt19937 random(3);
  for (std::uint64_t s = 1; s <= 1000; ++s) {
    w.submit(s, {.prompt = std::vector<std::int32_t>(1 + random() % 30, 5), .seed = s, .max_tokens = 200});
    for (auto n = random() % 20; n > 0; --n) w.run_one();
    if (s > 4) w.abort(s - random() % 4);
  }
  for (std::uint64_t s = 1; s <= 1000; ++s) w.abort(s);
  w.run_all();
  const auto cache = w.ask<wire::CacheStatus>(w.cache_manager);
  EXPECT_EQ(cache->free_blocks(), w.device.blocks);
  EXPECT_EQ(w.ask<wire::SchedulerStatus>(w.scheduler)->running(), 0u);
}

TEST(Scheduler, GoesOnWhenAStepFailsAndTheExecutorIsRestarted) {
  test::recall_options device;
  int steps = 0;
  device.fails = [&] { return ++steps == 4; };
  engine_actors w(device);
  submit_some(w);
  w.run_all();
  EXPECT_FALSE(w.all_over());
  w.spawn("executor");
  w.announce("executor");
  w.finish();
  w.expect_exact();
  EXPECT_EQ(w.ask<wire::SchedulerStatus>(w.scheduler)->recoveries(), 1u);
}

TEST(Scheduler, GivesUpRequestsThatNoExecutorSurvives) {
  test::recall_options device;
  device.fails = [] { return true; };
  engine_actors w(device);
  submit_some(w, 2);
  for (int i = 0; i < 7; ++i) {  // two with both in flight, two more for each alone
    w.run_all();
    w.spawn("executor");
    w.announce("executor");
  }
  w.finish();
  for (const auto& [stream, s] : *w.streams) EXPECT_EQ(s.error, error_code::internal) << s.text;
}

// ---- faults: an actor ends at every point of the work ------------------------------------------------

// Runs `before` messages, restarts `id` after `pause` more, and expects every stream exact. False: the work was over by then.
bool survive(const std::string& id, int before, int pause, bool recurrent) {
  test::recall_options device;
  device.recurrent = recurrent;
  planner_options planner;
  if (recurrent) planner.max_sequences = 2;  // a slot that is not given back is missed at once
  engine_actors w(device, planner);
  submit_some(w);
  for (int i = 0; i < before; ++i)
    if (!w.run_one()) return false;
  if (w.all_over()) return false;
  w.kill(id);
  for (int i = 0; i < pause; ++i) w.run_one();
  w.spawn(id);
  w.announce(id);
  w.finish();
  w.expect_exact();
  EXPECT_EQ(w.ask<wire::CacheStatus>(w.cache_manager)->free_blocks(), w.device.blocks);
  const auto status = w.ask<wire::SchedulerStatus>(w.scheduler);
  EXPECT_EQ(status->running() + status->waiting(), 0u);
  EXPECT_TRUE(status->ready());
  return true;
}

class SchedulerFaults : public ::testing::TestWithParam<const char*> {};

TEST_P(SchedulerFaults, StreamsGoOnExactlyWhereverTheActorEnds) {
  int points = 0;
  for (bool recurrent : {false, true})
    for (int pause : {0, 3, 50})
      for (int before = 0; survive(GetParam(), before, pause, recurrent); ++before) {
        ++points;
        if (HasFailure())
          FAIL() << GetParam() << " ended behind message " << before << ", restarted " << pause << " later"
                 << (recurrent ? ", with recurrent state" : "");
      }
  EXPECT_GT(points, 200);
}

INSTANTIATE_TEST_SUITE_P(Each, SchedulerFaults, ::testing::Values("executor", "cache_manager", "scheduler/0"),
                         [](const auto& test) {
                           return std::string(test.param).substr(0, std::string(test.param).find('/'));
                         });

TEST(Scheduler, ContinuesStreamsExactlyThroughManyRestartsOfAll) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    planner_options planner;
    planner.max_failures = 100;
    test::recall_options device;
    device.blocks = 16;  // with preemptions
    device.recurrent = seed % 2 == 1;
    planner.max_sequences = 4;
    engine_actors w(device, planner);
    submit_some(w, 6);
    const char* all[] = {"executor", "cache_manager", "scheduler/0"};
    for (int i = 0; i < 8; ++i) {
      for (auto n = random() % 60; n > 0; --n) w.run_one();
      w.restart(all[random() % 3]);
    }
    w.finish();
    w.expect_exact();
    EXPECT_EQ(w.ask<wire::CacheStatus>(w.cache_manager)->free_blocks(), w.device.blocks);
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

}  // namespace
}  // namespace troupe
