#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/actors/scheduler/planner_world.hpp"

namespace troupe {
namespace {

using test::planner_world;
using test::recall_request;
using test::world_options;
using wire::FinishReason;

std::vector<std::int32_t> ids(std::size_t count, std::int32_t salt = 0) {
  std::vector<std::int32_t> x(count);
  for (std::size_t i = 0; i < count; ++i)
    x[i] = static_cast<std::int32_t>((i * 7 + static_cast<std::size_t>(salt) * 13 + i / 5) %
                                     planner_world::vocabulary);
  return x;
}

world_options small(std::uint32_t blocks) {
  world_options o;
  o.device.blocks = blocks;
  o.device.block_tokens = 4;
  return o;
}

// ---- batching -----------------------------------------------------------------------------------------

TEST(BatchPlanner, GivesAStreamItsTokensAndOneEnd) {
  planner_world w;
  auto& log = w.submit(1, {.prompt = ids(5), .seed = 3, .max_tokens = 9});
  w.finish();
  w.expect_exact(1);
  EXPECT_EQ(log.finish, FinishReason::length);
  w.expect_everything_free();
}

TEST(BatchPlanner, LetsANewSequenceJoinAtTheNextPlan) {
  planner_world w;
  w.submit(1, {.prompt = ids(5), .max_tokens = 30});
  w.serve_cache();
  for (int i = 0; i < 3; ++i) {
    w.run_plan();
    w.take_result();
  }
  const auto steps = w.plans_run.size() + w.plan_box.size();
  w.submit(2, {.prompt = ids(5, 1), .max_tokens = 30});
  while (w.serve_cache()) {
  }
  w.finish();
  const auto& joined = *w.plans_run[steps];
  ASSERT_EQ(joined.begin.size(), 1u);
  EXPECT_EQ(joined.prefill.size(), 1u);
  EXPECT_EQ(joined.decode.size(), 1u);
  w.expect_exact(1);
  w.expect_exact(2);
}

TEST(BatchPlanner, CutsALongPromptIntoChunksOfTheBudget) {
  world_options o;
  o.planner.step_tokens = 8;
  planner_world w(o);
  w.submit(1, {.prompt = ids(20), .max_tokens = 2});
  w.finish();
  std::vector<std::uint32_t> sizes;
  for (const auto& p : w.plans_run)
    for (const auto& c : p->prefill) sizes.push_back(c.tokens());
  EXPECT_EQ(sizes, (std::vector<std::uint32_t>{8, 8, 4}));
  w.expect_exact(1);
}

TEST(BatchPlanner, PutsDecodesFirstAndFillsTheBudgetWithChunksOfSeveralSequences) {
  world_options o;
  o.planner.step_tokens = 10;
  std::vector<std::size_t> tokens;
  o.device.sees = [&](const ops::step_batch& b) { tokens.push_back(b.tokens.size()); };
  planner_world w(o);
  w.submit(1, {.prompt = ids(3), .max_tokens = 20});
  w.serve_cache();
  w.run_plan();
  w.take_result();
  w.submit(2, {.prompt = ids(6, 1), .max_tokens = 2});
  w.submit(3, {.prompt = ids(9, 2), .max_tokens = 2});
  w.finish();
  bool mixed = false;
  for (const auto& p : w.plans_run)
    if (p->prefill.size() == 2) {
      mixed = true;
      EXPECT_EQ(p->decode.size(), 1u);
      EXPECT_EQ(p->prefill[0].tokens(), 6u);
      EXPECT_EQ(p->prefill[1].tokens(), 3u);
    }
  EXPECT_TRUE(mixed);
  EXPECT_LE(*std::ranges::max_element(tokens), 10u);
  for (std::uint64_t s = 1; s <= 3; ++s) w.expect_exact(s);
}

TEST(BatchPlanner, SendsASecondPlanBeforeTheFirstIsAnsweredAndNoThird) {
  planner_world w;
  w.submit(1, {.prompt = ids(5), .max_tokens = 30});
  w.serve_cache();
  ASSERT_EQ(w.plan_box.size(), 2u);
  EXPECT_EQ(w.plan_box[0]->prefill()->size(), 1u);
  EXPECT_EQ(w.plan_box[1]->decode()->size(), 1u);
  w.run_plan();
  EXPECT_EQ(w.plan_box.size(), 1u);
  w.take_result();
  EXPECT_EQ(w.plan_box.size(), 2u);
}

TEST(BatchPlanner, PlansNoTokenBeyondTheLength) {
  planner_world w;
  w.submit(1, {.prompt = ids(5), .max_tokens = 1});
  w.serve_cache();
  EXPECT_EQ(w.plan_box.size(), 1u);
  w.finish();
  w.expect_exact(1);
}

TEST(BatchPlanner, AdmitsInOrderOfArrivalUpToThePlacesOfTheBatch) {
  world_options o;
  o.planner.max_sequences = 2;
  std::size_t widest = 0;
  o.device.sees = [&](const ops::step_batch& b) { widest = std::max(widest, b.block_tables.size()); };
  planner_world w(o);
  for (std::uint64_t s = 1; s <= 6; ++s)
    w.submit(s, {.prompt = ids(3, static_cast<int>(s)), .seed = s, .max_tokens = 3});
  w.finish();
  std::vector<std::uint64_t> begun;
  for (const auto& p : w.plans_run)
    for (const auto& b : p->begin) begun.push_back(b->sequence);
  EXPECT_TRUE(std::ranges::is_sorted(begun));
  EXPECT_EQ(begun.size(), 6u);
  EXPECT_EQ(widest, 2u);
  for (std::uint64_t s = 1; s <= 6; ++s) w.expect_exact(s);
}

TEST(BatchPlanner, RunsSixtyFourSequencesInOneBatchAtItsDefaults) {
  world_options o = small(64 * 12);
  std::size_t widest = 0;
  o.device.sees = [&](const ops::step_batch& b) { widest = std::max(widest, b.block_tables.size()); };
  planner_world w(o);
  for (std::uint64_t s = 1; s <= 64; ++s)
    w.submit(s, {.prompt = ids(1 + s % 9, static_cast<int>(s)), .seed = s, .max_tokens = 20});
  w.finish();
  EXPECT_EQ(widest, 64u);
  for (std::uint64_t s = 1; s <= 64; ++s) w.expect_exact(s);
}

TEST(BatchPlanner, TellsTheStopIdThatEndedASequence) {
  planner_world w;
  recall_request r{.prompt = ids(4), .seed = 5, .max_tokens = 30};
  r.stop_ids = {test::expected_tokens(r, planner_world::vocabulary)[3]};
  auto& log = w.submit(1, r);
  w.finish();
  w.expect_exact(1);
  EXPECT_EQ(log.finish, FinishReason::stop);
  EXPECT_EQ(log.stop_token, r.stop_ids[0]);
  EXPECT_EQ(log.usage->generated_tokens(), log.tokens.size());
  w.expect_everything_free();
}

TEST(BatchPlanner, KeepsChoicesOfAStreamApart) {
  planner_world w;
  recall_request r{.prompt = ids(6), .seed = 1, .max_tokens = 5};
  auto first = test::submit_of(1, r);
  auto second = test::submit_of(1, r);
  second.choice = 1;
  second.sampling->seed = 2;
  w.planner->submit(0, test::pack(first), w.now);
  w.planner->submit(0, test::pack(second), w.now);
  EXPECT_EQ(w.planner->waiting(), 2u);
  w.planner->abort(*test::abort_of(1, 1));
  w.streams[1].request = r;
  w.pump();
  w.finish();
  w.expect_exact(1);
}

// ---- the cache ----------------------------------------------------------------------------------------

TEST(BatchPlanner, PreemptsTheNewestWhenTheCacheIsFullAndContinuesItExactly) {
  planner_world w(small(8));  // 32 positions for what will be 3 * 17
  for (std::uint64_t s = 1; s <= 3; ++s)
    w.submit(s, {.prompt = ids(6, static_cast<int>(s)), .seed = s, .max_tokens = 12});
  w.finish();
  EXPECT_GT(w.planner->preemptions(), 0u);
  for (std::uint64_t s = 1; s <= 3; ++s) w.expect_exact(s);
  w.expect_everything_free();
  std::size_t begins_of_first = 0;  // ids are given in order of arrival, and the oldest is never sent back
  for (const auto& p : w.plans_run)
    for (const auto& b : p->begin) begins_of_first += b->sequence == 1 ? 1 : 0;
  EXPECT_EQ(begins_of_first, 1u);
}

TEST(BatchPlanner, UsesTheWholeCacheForOneSequenceThatNeedsIt) {
  planner_world w(small(8));
  w.submit(1, {.prompt = ids(20), .max_tokens = 13});  // 32 positions are computed
  w.finish();
  w.expect_exact(1);
  EXPECT_EQ(w.planner->preemptions(), 0u);
}

TEST(BatchPlanner, RefusesAPromptThatCanNeverFit) {
  planner_world w(small(8));
  auto& log = w.submit(1, {.prompt = ids(33), .max_tokens = 1});
  EXPECT_EQ(log.error, error_code::context_exceeded);
  EXPECT_NE(log.text.find("33 prompt tokens"), std::string::npos);
  auto& fits = w.submit(2, {.prompt = ids(32), .max_tokens = 1});
  w.finish();
  EXPECT_EQ(fits.finish, FinishReason::length);
  w.expect_exact(2);
}

TEST(BatchPlanner, RefusesALeastLengthThatCanNeverFit) {
  planner_world w(small(8));
  EXPECT_EQ(w.submit(1, {.prompt = ids(20), .max_tokens = 90, .min_tokens = 14}).error,
            error_code::context_exceeded);
}

TEST(BatchPlanner, EndsWithLengthWhereTheCacheEnds) {
  planner_world w(small(4));
  recall_request r{.prompt = ids(6), .max_tokens = 1000};
  auto& log = w.submit(1, r);
  w.finish();
  EXPECT_EQ(log.finish, FinishReason::length);
  log.request.max_tokens = 11;  // positions 0 to 15, and one token behind them
  w.expect_exact(1);
}

TEST(BatchPlanner, ReusesThePrefixOfAnEarlierPromptAndCountsIt) {
  planner_world w;
  w.submit(1, {.prompt = ids(14), .seed = 1, .max_tokens = 4});
  w.finish();
  auto& log = w.submit(2, {.prompt = ids(14), .seed = 2, .max_tokens = 4});
  w.finish();
  w.expect_exact(2);
  EXPECT_EQ(log.usage->cached_tokens(), 12u);
  EXPECT_EQ(w.streams[1].usage->cached_tokens(), 0u);
}

// K/V of the prefix is there, but not the state behind it.
TEST(BatchPlanner, NeitherAsksForNorKeepsAPrefixOfAModelWithRecurrentState) {
  world_options o;
  o.device.recurrent = true;
  planner_world w(o);
  w.submit(1, {.prompt = ids(14), .seed = 1, .max_tokens = 4});
  w.finish();
  EXPECT_EQ(w.pool.cached_blocks(), 0u);
  auto& log = w.submit(2, {.prompt = ids(14), .seed = 2, .max_tokens = 4});
  w.finish();
  w.expect_exact(2);
  EXPECT_EQ(log.usage->cached_tokens(), 0u);
}

TEST(BatchPlanner, KeepsSmallSequencesBehindALargeOneInOrder) {
  planner_world w(small(8));
  w.submit(1, {.prompt = ids(16), .seed = 1, .max_tokens = 10});
  w.serve_cache();
  w.submit(2, {.prompt = ids(20, 2), .seed = 2, .max_tokens = 2});  // has to wait for the first
  w.submit(3, {.prompt = ids(2, 3), .seed = 3, .max_tokens = 2});   // would fit beside it
  w.finish();
  std::vector<std::uint64_t> begun;
  for (const auto& p : w.plans_run)
    for (const auto& b : p->begin) begun.push_back(b->sequence);
  EXPECT_EQ(begun, (std::vector<std::uint64_t>{1, 2, 3}));
  for (std::uint64_t s = 1; s <= 3; ++s) w.expect_exact(s);
}

TEST(BatchPlanner, WaitsForRoomThatAnotherModelHolds) {
  planner_world w(small(8));
  w.pool.set_block_tokens({1}, 4);
  std::vector<granted_block> other;
  ASSERT_TRUE(w.pool.lease({{1}, {1}}, 24, {}, other));
  w.submit(1, {.prompt = ids(7), .max_tokens = 12});
  for (int i = 0; i < 200; ++i) {
    while (w.serve_cache() || w.run_plan() || w.take_result()) {
    }
    w.tick();
  }
  EXPECT_FALSE(w.streams[1].over);
  w.pool.release({{1}, {1}}, {});
  w.finish();
  w.expect_exact(1);
}

TEST(BatchPlanner, FreesTheBlocksOfAnAbortedSequenceWithinOneStep) {
  planner_world w;
  w.submit(1, {.prompt = ids(30), .max_tokens = 30});
  w.serve_cache();
  w.run_plan();
  w.take_result();
  EXPECT_LT(w.pool.free_blocks(), w.pool.blocks());
  w.abort(1);
  w.serve_cache();
  EXPECT_EQ(w.pool.free_blocks(), w.pool.blocks());
  while (w.run_plan() || w.take_result() || w.serve_cache()) {
  }
  w.expect_everything_free();
}

TEST(BatchPlanner, FreesBlocksThatAreGrantedAfterTheAbort) {
  planner_world w;
  w.submit(1, {.prompt = ids(30)});
  w.abort(1);  // the lease is still in the cache-manager's mailbox
  w.finish();
  w.expect_everything_free();
}

TEST(BatchPlanner, TakesNoSequenceOfAStreamThatWasAbortedBefore) {
  planner_world w;
  w.abort(1);
  w.planner->submit(0, test::pack(test::submit_of(1, {.prompt = ids(6)})), w.now);
  EXPECT_TRUE(w.planner->idle());
  w.submit(2, {.prompt = ids(6), .max_tokens = 5});
  w.finish();
  w.expect_exact(2);
  w.expect_everything_free();
}

TEST(BatchPlanner, RemembersAsManyAbortsAsItIsToldTo) {
  world_options o;
  o.planner.aborts_remembered = 2;
  planner_world w(o);
  for (std::uint64_t s = 1; s <= 3; ++s) w.planner->abort(*test::abort_of(s));
  for (std::uint64_t s = 1; s <= 3; ++s)
    w.planner->submit(0, test::pack(test::submit_of(s, {.prompt = ids(4)})), w.now);
  EXPECT_EQ(w.planner->waiting(), 1u) << "the oldest is forgotten, the others are not";
}

TEST(BatchPlanner, DropsAllSequencesOfADestinationThatIsGone) {
  planner_world w;
  for (std::uint64_t s = 1; s <= 4; ++s)
    w.planner->submit(static_cast<std::uint32_t>(s % 2), test::pack(test::submit_of(s, {.prompt = ids(4)})),
                      w.now);
  w.pump();
  w.serve_cache();
  w.planner->abort_destination(1);
  EXPECT_EQ(w.planner->running() + w.planner->waiting(), 2u);
}

// ---- answers ------------------------------------------------------------------------------------------

TEST(BatchPlanner, GivesASlowReaderTwoBatchesAndTheRestInOne) {
  world_options o;
  o.slow_reader = true;
  planner_world w(o);
  auto& log = w.submit(1, {.prompt = ids(5), .seed = 3, .max_tokens = 20});
  w.serve_cache();
  while (w.serve_cache() || w.run_plan() || w.take_result()) {
  }
  EXPECT_EQ(w.batches_unread, 2);
  EXPECT_EQ(log.tokens.size(), 2u);
  EXPECT_FALSE(log.over);
  w.read_batch();
  EXPECT_EQ(w.batches_unread, 2);
  EXPECT_EQ(log.deltas, 3u) << "tokens of one sequence that waited together are one delta";
  w.expect_exact(1);
  EXPECT_EQ(log.usage->generated_tokens(), 20u);
  w.expect_everything_free();
}

TEST(BatchPlanner, TellsTokensThatWaitedBeforeTheErrorThatEndedTheirSequence) {
  world_options o;
  o.slow_reader = true;
  planner_world w(o);
  auto request = test::submit_of(1, {.prompt = ids(5), .max_tokens = 200});
  request.deadline_ns = w.now + 1;
  auto& log = w.submit(std::move(request));
  w.serve_cache();
  for (int i = 0; i < 5; ++i) {
    while (w.serve_cache()) {
    }
    w.run_plan();
    w.take_result();
  }
  w.tick();
  while (w.read_batch()) {
  }
  EXPECT_EQ(log.error, error_code::deadline_exceeded);
  EXPECT_GE(log.tokens.size(), 4u);
  EXPECT_EQ(log.usage->generated_tokens(), log.tokens.size());
}

TEST(BatchPlanner, PlansNoMoreWhileTooMuchWaitsForAReaderAndGoesOnBehindIt) {
  world_options o;
  o.slow_reader = true;
  o.planner.backlog_tokens = 4;
  planner_world w(o);
  w.submit(1, {.prompt = ids(5), .max_tokens = 50});
  while (w.serve_cache() || w.run_plan() || w.take_result()) {
  }
  const auto steps = w.plans_run.size();
  EXPECT_LE(steps, 2u + 4u + 1u) << "batches under way, the backlog, a plan in flight";
  EXPECT_EQ(w.planner->running(), 1u);
  w.finish();
  w.expect_exact(1);
}

TEST(BatchPlanner, LeavesOutOnlyTheSequencesOfAReaderThatDoesNotKeepUp) {
  world_options o;
  o.slow_reader = true;
  o.planner.backlog_tokens = 4;
  planner_world w(o);
  w.submit(1, {.prompt = ids(5), .seed = 1, .max_tokens = 50});
  const recall_request other{.prompt = ids(6), .seed = 2, .max_tokens = 50};
  w.streams[2].request = other;
  w.planner->submit(1, test::pack(test::submit_of(2, other)), w.now);
  w.pump();
  while (w.serve_cache() || w.run_plan() || w.take_result()) {
  }
  w.expect_exact(2);
  EXPECT_LT(w.streams[1].tokens.size(), 50u);
  EXPECT_EQ(w.planner->running(), 1u);
  w.finish();
  w.expect_exact(1);
  w.expect_everything_free();
}

TEST(BatchPlanner, IsNotHeldUpByAReaderThatIsGone) {
  world_options o;
  o.slow_reader = true;
  o.planner.backlog_tokens = 4;
  planner_world w(o);
  w.submit(1, {.prompt = ids(5), .max_tokens = 50});
  while (w.serve_cache() || w.run_plan() || w.take_result()) {
  }
  w.batches_unread = 0;
  w.planner->abort_destination(0);
  auto& log = w.submit(2, {.prompt = ids(6), .max_tokens = 8});
  w.finish();
  w.expect_exact(2);
  EXPECT_TRUE(log.over);
}

TEST(BatchPlanner, RefusesMoreThanTheQueueHolds) {
  world_options o;
  o.planner.queue_limit = 3;
  o.planner.max_sequences = 1;
  planner_world w(o);
  w.submit(1, {.prompt = ids(3), .max_tokens = 2});
  w.serve_cache();
  for (std::uint64_t s = 2; s <= 4; ++s) w.submit(s, {.prompt = ids(3), .max_tokens = 2});
  auto& log = w.submit(5, {.prompt = ids(3), .max_tokens = 2});
  EXPECT_EQ(log.error, error_code::overloaded);
  w.finish();
  for (std::uint64_t s = 1; s <= 4; ++s) w.expect_exact(s);
}

TEST(BatchPlanner, RefusesARequestWithNothingToDo) {
  planner_world w;
  EXPECT_EQ(w.submit(1, {.prompt = {}, .max_tokens = 2}).error, error_code::invalid_request);
  EXPECT_EQ(w.submit(2, {.prompt = ids(2), .max_tokens = 0}).error, error_code::invalid_request);
  EXPECT_TRUE(w.planner->idle());
}

TEST(BatchPlanner, EndsARequestAtItsDeadlineWhereverItIs) {
  world_options o;
  o.planner.max_sequences = 1;
  planner_world w(o);
  for (std::uint64_t s = 1; s <= 2; ++s) {
    auto submit = test::submit_of(s, {.prompt = ids(3), .max_tokens = 1000});
    submit.deadline_ns = w.now + 200'000'000;
    w.submit(std::move(submit));
  }
  w.serve_cache();
  w.run_plan();
  w.take_result();
  EXPECT_EQ(w.planner->running(), 1u);
  w.tick(100'000'000);
  EXPECT_FALSE(w.streams[1].over);
  w.tick(100'000'000);
  for (std::uint64_t s = 1; s <= 2; ++s) EXPECT_EQ(w.streams[s].error, error_code::deadline_exceeded);
  w.finish();
  w.expect_everything_free();
}

TEST(BatchPlanner, MeasuresTimesFromReceipt) {
  planner_world w;
  auto submit = test::submit_of(1, {.prompt = ids(3), .max_tokens = 2});
  submit.received_ns = w.now - 1000;
  auto& log = w.submit(std::move(submit));
  w.now += 500;
  w.serve_cache();
  w.run_plan();
  w.now += 700;
  w.take_result();
  ASSERT_TRUE(log.usage.has_value());  // with the first token already
  EXPECT_EQ(log.usage->queued_ns(), 1500u);
  EXPECT_EQ(log.usage->first_token_ns(), 2200u);
  EXPECT_EQ(log.usage->prompt_tokens(), 3u);
}

TEST(BatchPlanner, DeliversPromptLogProbabilitiesOnceWithTheFirstToken) {
  world_options o = small(10);
  o.planner.step_tokens = 4;
  planner_world w(o);
  w.submit(9, {.prompt = ids(11), .max_tokens = 2});  // leaves a prefix that must not be used
  w.finish();
  auto submit = test::submit_of(1, {.prompt = ids(11), .max_tokens = 12});
  submit.prompt_logprobs = 1;
  auto& log = w.submit(std::move(submit), {.prompt = ids(11), .max_tokens = 12});
  w.submit(2, {.prompt = ids(9, 1), .max_tokens = 20});
  w.finish();
  w.expect_exact(1);
  EXPECT_EQ(log.prompts, 1u);
  ASSERT_EQ(log.prompt.size(), 11u);
  EXPECT_TRUE(std::isnan(log.prompt[0]->logprob));
  for (std::size_t i = 1; i < 11; ++i) {
    EXPECT_EQ(log.prompt[i]->token, ids(11)[i]);
    EXPECT_EQ(log.prompt[i]->logprob,
              test::logprob_of(test::digest_of(std::span(log.request.prompt).first(i)), ids(11)[i]));
  }
}

TEST(BatchPlanner, PassesOnTheErrorOfASequenceAndServesTheOthers) {
  world_options o;
  const auto broken = test::digest_of(ids(5));
  o.device.gives_non_finite = [broken](std::uint64_t state) { return state == broken; };
  planner_world w(o);
  auto& log = w.submit(1, {.prompt = ids(5)});
  w.submit(2, {.prompt = ids(5, 1)});
  w.finish();
  EXPECT_EQ(log.error, error_code::internal);
  w.expect_exact(2);
  w.expect_everything_free();
}

// ---- restarts -----------------------------------------------------------------------------------------

TEST(BatchPlanner, ContinuesStreamsExactlyAfterEveryOrderOfAnnouncements) {
  for (int order = 0; order < 3; ++order) {
    planner_world w;
    for (std::uint64_t s = 1; s <= 3; ++s)
      w.submit(s, {.prompt = ids(5, static_cast<int>(s)), .seed = s, .max_tokens = 9});
    w.serve_cache();
    for (int i = 0; i < 4; ++i) {
      w.run_plan();
      w.take_result();
    }
    if (order == 2) {  // the new pool is known before the old executor's end
      w.plan_box.clear();
      w.start_executor();
      w.announce_model();
      w.planner->executor_gone(w.now);
      w.announce_executor();
    } else {
      w.kill_executor();
      w.start_executor();
      if (order == 0) w.announce_executor();
      w.announce_model();
      if (order == 1) w.announce_executor();
    }
    w.finish();
    for (std::uint64_t s = 1; s <= 3; ++s) w.expect_exact(s);
    EXPECT_GE(w.planner->recoveries(), 1u) << order;
    w.expect_everything_free();
  }
}

TEST(BatchPlanner, IgnoresAModelThatWasLoadedIntoAPoolThatIsGone) {
  planner_world w;
  w.submit(1, {.prompt = ids(5), .max_tokens = 9});
  w.serve_cache();
  w.run_plan();
  w.take_result();
  w.kill_executor();
  w.announce_executor();
  w.announce_model();  // a late word of the former pool
  EXPECT_FALSE(w.planner->ready());
  w.start_executor();
  w.announce_model();
  w.finish();
  w.expect_exact(1);
}

TEST(BatchPlanner, GivesUpASequenceThatManyExecutorsDidNotSurvive) {
  planner_world w;
  auto& log = w.submit(1, {.prompt = ids(5)});
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(log.over);
    while (w.serve_cache()) {
    }
    ASSERT_GT(w.planner->in_flight(), 0u);
    w.restart_executor();
  }
  EXPECT_EQ(log.error, error_code::internal);
  EXPECT_NE(log.text.find("4 times"), std::string::npos);
}

TEST(BatchPlanner, EndsOnlyTheSequenceThatKillsTheExecutorAtTheCostOfFourRestarts) {
  for (const bool decodes_only : {false, true})
    for (std::uint64_t culprit = 1; culprit <= 5; ++culprit) {
      planner_world w;
      w.poison = ids(1, static_cast<int>(culprit)).front();
      w.poison_decodes_only = decodes_only;
      for (std::uint64_t s = 1; s <= 5; ++s)
        w.submit(s, {.prompt = ids(5, static_cast<int>(s)), .seed = s, .max_tokens = 9});
      w.finish();
      for (std::uint64_t s = 1; s <= 5; ++s) {
        if (s != culprit) w.expect_exact(s);
      }
      EXPECT_EQ(w.streams.at(culprit).error, error_code::internal);
      EXPECT_EQ(w.executors_killed, 4) << culprit;
      w.expect_everything_free();
    }
}

TEST(BatchPlanner, LetsThoseWaitThatComeWhileSuspectsRunAloneAndThenServesThem) {
  planner_world w;
  w.poison = ids(1, 2).front();
  for (std::uint64_t s = 1; s <= 2; ++s)
    w.submit(s, {.prompt = ids(5, static_cast<int>(s)), .seed = s, .max_tokens = 9});
  std::mt19937 random(3);
  while (w.executors_killed < 2) ASSERT_TRUE(w.any_event(random));
  w.submit(3, {.prompt = ids(5, 3), .seed = 3, .max_tokens = 9});
  w.finish();
  w.expect_exact(1);
  w.expect_exact(3);
  EXPECT_EQ(w.executors_killed, 4);
}

TEST(BatchPlanner, RunsTogetherAgainThoseThatHaveSurvivedAlone) {
  planner_world w;
  for (std::uint64_t s = 1; s <= 3; ++s)
    w.submit(s, {.prompt = ids(5, static_cast<int>(s)), .seed = s, .max_tokens = 12});
  for (int i = 0; i < 2; ++i) {  // nobody's fault
    while (w.serve_cache()) {
    }
    w.restart_executor();
  }
  const auto before = w.plans_run.size();
  w.finish();
  std::size_t most = 0;
  for (std::size_t i = before; i < w.plans_run.size(); ++i) {
    const auto& plan = *w.plans_run[i];
    if (i < before + 3) {
      EXPECT_LE(plan.prefill.size() + plan.decode.size(), 1u);
    }
    most = std::max(most, plan.decode.size());
  }
  EXPECT_EQ(most, 3u);
  for (std::uint64_t s = 1; s <= 3; ++s) w.expect_exact(s);
}

TEST(BatchPlanner, ComputesASequenceAgainThatTheExecutorDoesNotKnow) {
  planner_world w;
  w.submit(1, {.prompt = ids(5), .max_tokens = 9});
  w.serve_cache();
  w.run_plan();
  w.take_result();
  w.result_box.push_back(w.runner->empty_result(*w.plan_box.front()));
  w.plan_box.pop_front();
  w.take_result();
  EXPECT_EQ(w.planner->running(), 0u);
  w.finish();
  w.expect_exact(1);
}

TEST(BatchPlanner, IsNotReadyAndEndsWhatWaitsTooLongForAModel) {
  planner_world w;
  w.kill_executor();
  auto& log = w.submit(1, {.prompt = ids(5)});
  w.tick(w.options.planner.unavailable_after_ns / 2);
  EXPECT_FALSE(log.over);
  w.tick(w.options.planner.unavailable_after_ns);
  EXPECT_EQ(log.error, error_code::unavailable);
  EXPECT_TRUE(w.planner->idle());
}

TEST(BatchPlanner, EndsWhatRunsWhenTheDeviceDoesNotAnswerAndRecoversWhenItDoes) {
  planner_world w;
  auto& log = w.submit(1, {.prompt = ids(5)});
  w.serve_cache();
  w.tick(w.options.planner.step_timeout_ns + 1);
  EXPECT_EQ(log.error, error_code::unavailable);
  EXPECT_FALSE(w.planner->ready());
  w.submit(2, {.prompt = ids(6)});
  w.finish();
  w.expect_exact(2);
  w.expect_everything_free();
}

TEST(BatchPlanner, TakesUpStreamsWithWhatTheyHadGeneratedAfterItsOwnRestart) {
  planner_world w;
  for (std::uint64_t s = 1; s <= 3; ++s)
    w.submit(s, {.prompt = ids(5, static_cast<int>(s)), .seed = s, .max_tokens = 9});
  w.serve_cache();
  for (int i = 0; i < 3; ++i) {
    w.run_plan();
    w.take_result();
  }
  EXPECT_FALSE(w.streams[1].tokens.empty());
  w.restart_scheduler();
  w.finish();
  for (std::uint64_t s = 1; s <= 3; ++s) w.expect_exact(s);
  w.expect_everything_free();
}

TEST(BatchPlanner, EndsAStreamThatIsSubmittedAgainWithNothingLeftToGenerate) {
  planner_world w;
  recall_request r{.prompt = ids(5), .max_tokens = 4};
  auto submit = test::submit_of(1, r);
  submit.generated = test::expected_tokens(r, planner_world::vocabulary);
  auto& log = w.submit(std::move(submit), r);
  EXPECT_EQ(log.finish, FinishReason::length);
  EXPECT_TRUE(log.tokens.empty());
}

// ---- whatever happens ---------------------------------------------------------------------------------

// What happened in it is added up, to see that it happens at all.
struct life_counts {
  std::uint64_t preemptions = 0, finished = 0, cached_tokens = 0;
  std::uint32_t switches = 0;
};

struct life_kind {
  bool restarts = false;
  bool recurrent = false;  // the model keeps state in slots, as many as the batch has places
  bool switches = false;   // to versions with the same results
};

// Carried or recomputed, on probation or not, forth or back. Numbers only grow.
void any_switch(planner_world& w, std::mt19937& random, std::uint32_t number) {
  wire::SwitchVersionT to;
  to.version = number;
  to.probation = random() % 2 == 0;
  if (random() % 2 == 0) {
    w.add_version(number);
    to.keeps_prefixes = random() % 2 == 0;
  } else {
    auto device = w.options.device;
    device.block_tokens += random() % 3;  // never less room than the streams were made for
    w.add_version(number, device);
    to.recompute = true;
  }
  w.switch_to(to);
}

void random_life(unsigned seed, life_kind kind, life_counts& counts) {
  std::mt19937 random(seed);
  world_options o;
  o.device.blocks = 12 + random() % 30;
  o.device.block_tokens = 1 + random() % 6;
  o.planner.max_sequences = 1 + random() % 8;
  o.planner.step_tokens = 2 + random() % 20;
  o.planner.lease_ahead = random() % 10;
  o.planner.plans_in_flight = 1 + random() % 2;
  o.planner.max_failures = 1000;
  o.planner.backlog_tokens = 1 + random() % 30;
  o.device.recurrent = kind.recurrent;
  o.prefix_caching = random() % 4 != 0;
  o.slow_reader = random() % 2 == 0;
  planner_world w(o);
  const std::uint32_t room = o.device.blocks * o.device.block_tokens;
  std::set<std::uint64_t> aborted;
  std::uint64_t next = 1;
  for (int round = 0; round < 1500; ++round) {
    const auto dice = random() % 100;
    if (dice < 4) {
      recall_request r{
          .prompt = ids(1 + random() % std::min<std::uint32_t>(room / 2, 40), static_cast<int>(random() % 3)),
          .seed = random() % 5,
          .max_tokens = static_cast<std::uint32_t>(1 + random() % std::min<std::uint32_t>(room / 2, 25)),
          .min_tokens = static_cast<std::uint32_t>(random() % 3)};
      for (auto n = random() % 3; n > 0; --n)
        r.stop_ids.push_back(static_cast<std::int32_t>(random() % planner_world::vocabulary));
      r.min_tokens = std::min(r.min_tokens, r.max_tokens);
      w.submit(next++, std::move(r));
    } else if (dice == 4 && next > 1) {
      const auto victim = 1 + random() % (next - 1);
      if (!w.streams[victim].over) aborted.insert(victim);
      w.abort(victim);
    } else if (dice == 5) {
      w.tick();
    } else if (dice == 7 && kind.switches && w.planner->ready()) {
      any_switch(w, random, ++counts.switches);
    } else if (dice == 6 && kind.restarts) {
      switch (random() % 3) {
        case 0:
          w.restart_executor();
          break;
        case 1:
          w.restart_cache();
          break;
        default:
          w.restart_scheduler();
      }
    } else {
      w.any_event(random);
    }
    if (::testing::Test::HasFailure()) FAIL() << "seed " << seed << " round " << round;
  }
  w.finish();
  for (auto& [stream, log] : w.streams)
    if (!aborted.contains(stream)) {
      w.expect_exact(stream);
      ++counts.finished;
      if (log.usage) counts.cached_tokens += log.usage->cached_tokens();
    }
  counts.preemptions += w.planner->preemptions();
  w.expect_everything_free();
  EXPECT_EQ(w.pool.inconsistency(), nullptr);
  if (::testing::Test::HasFailure()) FAIL() << "seed " << seed;
}

TEST(BatchPlannerProperty, GivesEveryStreamTheTokensThatItGetsAloneWhateverTheOrderOfEvents) {
  life_counts counts;
  for (unsigned seed = 0; seed < 150 && !HasFatalFailure(); ++seed) random_life(seed, {}, counts);
  EXPECT_GT(counts.preemptions, 100u);
  EXPECT_GT(counts.finished, 1000u);
  EXPECT_GT(counts.cached_tokens, 1000u);
}

TEST(BatchPlannerProperty, GivesEveryStreamTheTokensThatItGetsAloneThroughRestarts) {
  life_counts counts;
  for (unsigned seed = 1000; seed < 1150 && !HasFatalFailure(); ++seed)
    random_life(seed, {.restarts = true}, counts);
  EXPECT_GT(counts.finished, 1000u);
}

TEST(BatchPlannerProperty, NeitherSharesNorLosesRecurrentStateWhateverTheOrderOfEvents) {
  life_counts counts;
  for (unsigned seed = 2000; seed < 2150 && !HasFatalFailure(); ++seed)
    random_life(seed, {.recurrent = true}, counts);
  EXPECT_GT(counts.preemptions, 100u);
  EXPECT_GT(counts.finished, 1000u);
  EXPECT_EQ(counts.cached_tokens, 0u);
}

TEST(BatchPlannerProperty, NeitherSharesNorLosesRecurrentStateThroughRestarts) {
  life_counts counts;
  for (unsigned seed = 3000; seed < 3150 && !HasFatalFailure(); ++seed)
    random_life(seed, {.restarts = true, .recurrent = true}, counts);
  EXPECT_GT(counts.finished, 1000u);
}

TEST(BatchPlannerProperty, GivesEveryStreamTheTokensThatItGetsAloneThroughSwitches) {
  life_counts counts;
  for (unsigned seed = 4000; seed < 4150 && !HasFatalFailure(); ++seed)
    random_life(seed, {.switches = true}, counts);
  EXPECT_GT(counts.switches, 1000u);
  EXPECT_GT(counts.finished, 1000u);
}

TEST(BatchPlannerProperty, GivesEveryStreamTheTokensThatItGetsAloneThroughSwitchesAndRestarts) {
  life_counts counts;
  for (unsigned seed = 5000; seed < 5150 && !HasFatalFailure(); ++seed)
    random_life(seed, {.restarts = true, .switches = true}, counts);
  EXPECT_GT(counts.switches, 1000u);
  EXPECT_GT(counts.finished, 1000u);
}

// ---- versions of the Program --------------------------------------------------------------------------

TEST(BatchPlanner, GoesBackToTheVersionBeforeWhereTheNewOneEmitsNoNumbers) {
  planner_world w;
  for (std::uint64_t s = 1; s <= 4; ++s) w.submit(s, {.prompt = ids(5 + s), .seed = s, .max_tokens = 30});
  std::mt19937 random(1);
  for (int i = 0; i < 40; ++i) w.any_event(random);
  auto broken = w.options.device;
  int steps = 0;
  broken.gives_non_finite = [&](std::uint64_t) { return ++steps > 20; };
  w.add_version(1, broken);
  wire::SwitchVersionT to;
  to.version = 1;
  to.recompute = to.probation = true;
  EXPECT_GT(w.switch_to(to).recomputed, 0u);
  EXPECT_EQ(w.planner->version(), 1u);
  w.finish();
  EXPECT_EQ(w.planner->version(), 0u);
  EXPECT_NE(w.alarm().find("non-finite logits"), std::string::npos) << w.alarm();
  for (std::uint64_t s = 1; s <= 4; ++s) w.expect_exact(s);
}

TEST(BatchPlanner, HoldsAllStepsAtAnAlarmWhereThereIsNoVersionBefore) {
  world_options o;
  bool broken = true;
  o.device.gives_non_finite = [&](std::uint64_t) { return broken; };
  planner_world w(o);
  wire::SwitchVersionT to;
  to.probation = true;
  w.switch_to(to);
  auto& log = w.submit(1, {.prompt = ids(5), .max_tokens = 9});
  std::mt19937 random(1);
  while (w.any_event(random)) {
  }
  EXPECT_FALSE(log.over);
  EXPECT_FALSE(w.planner->ready());
  EXPECT_FALSE(w.alarm().empty());
  broken = false;
  to.probation = false;
  w.switch_to(to);
  w.finish();
  w.expect_exact(1);
}

TEST(BatchPlanner, GoesBackToTheVersionBeforeWhenTheExecutorEndsOnProbation) {
  planner_world w;
  w.submit(1, {.prompt = ids(5), .max_tokens = 30});
  std::mt19937 random(1);
  for (int i = 0; i < 10; ++i) w.any_event(random);
  w.add_version(1);
  wire::SwitchVersionT to;
  to.version = 1;
  to.keeps_prefixes = to.probation = true;
  EXPECT_EQ(w.switch_to(to).continued, 1u);
  for (int i = 0; i < 10; ++i) w.any_event(random);
  w.restart_executor();
  EXPECT_NE(w.alarm().find("executor"), std::string::npos) << w.alarm();
  w.finish();
  EXPECT_EQ(w.planner->version(), 0u);
  w.expect_exact(1);
}

TEST(BatchPlannerProperty, IsAsFreeAsAtTheStartAfterAThousandAborts) {
  world_options o = small(64);
  o.planner.max_sequences = 8;
  planner_world w(o);
  std::mt19937 random(4);
  for (std::uint64_t s = 1; s <= 1000; ++s) {
    w.submit(s,
             {.prompt = ids(1 + random() % 40, static_cast<int>(random() % 5)), .seed = s, .max_tokens = 40});
    for (auto n = random() % 12; n > 0; --n) w.any_event(random);
    if (s > 3) w.abort(s - random() % 3);
  }
  for (std::uint64_t s = 1; s <= 1000; ++s) w.abort(s);
  while (w.any_event(random)) {
  }
  w.expect_everything_free();
  EXPECT_TRUE(w.planner->idle());
}

}  // namespace
}  // namespace troupe
