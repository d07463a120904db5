#include <gtest/gtest.h>

#include <cmath>

#include "actors/executor/step_runner.hpp"
#include "tests/support/recall_backend.hpp"

namespace troupe {
namespace {

using test::recall_model;
using test::recall_options;
using test::recall_request;
using wire::FinishReason;

constexpr std::uint32_t vocabulary = 50;

class StepRunner : public ::testing::Test {
 protected:
  void start(recall_options options = {}) {
    runner = std::make_unique<step_runner>(model_id{0}, std::make_unique<recall_model>(options, vocabulary),
                                           vocabulary, options.state_slots);
    plan = {};
  }
  void SetUp() override { start(); }

  // Enters a sequence with `blocks` blocks of 4 positions, beginning with block 8 * id.
  wire::BeginSequenceT& begin(std::uint64_t id, const recall_request& r, std::uint32_t blocks = 8) {
    auto b = std::make_unique<wire::BeginSequenceT>();
    b->sequence = id;
    b->history = r.prompt;
    b->prompt_tokens = static_cast<std::uint32_t>(r.prompt.size());
    b->sampling = std::make_unique<wire::SamplingT>();
    b->sampling->seed = r.seed;
    b->max_tokens = r.max_tokens;
    b->min_tokens = r.min_tokens;
    b->stop_ids = r.stop_ids;
    for (std::uint32_t i = 0; i < blocks; ++i)
      plan.grow.emplace_back(id, static_cast<std::uint32_t>(8 * id + i), std::uint8_t{0});
    plan.begin.push_back(std::move(b));
    return *plan.begin.back();
  }
  void prefill(std::uint64_t id, std::uint32_t position, std::uint32_t tokens) {
    plan.prefill.emplace_back(id, position, tokens);
  }
  void decode(std::uint64_t id) { plan.decode.push_back(id); }

  // Runs the plan and empties it.
  std::vector<std::unique_ptr<wire::SequenceStepT>> step() {
    ++plan.step;
    auto done = runner->run(*message<wire::StepPlan>::pack(plan));
    const auto number = plan.step;
    const auto incarnation = plan.incarnation;
    plan = {};
    plan.step = number;
    plan.incarnation = incarnation;
    EXPECT_TRUE(done.has_value());
    std::unique_ptr<wire::StepResultT> r((*done)->UnPack());
    EXPECT_EQ(r->step, number);
    computed = r->computed_tokens;
    return std::move(r->sequences);
  }

  std::unique_ptr<step_runner> runner;
  wire::StepPlanT plan;
  std::uint32_t computed = 0;
};

TEST_F(StepRunner, SamplesBehindTheLastChunkAndThenDecodes) {
  const recall_request r{.prompt = {3, 1, 4, 1, 5}, .seed = 7, .max_tokens = 4};
  begin(1, r);
  prefill(1, 0, 3);
  auto out = step();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0]->token, -1);
  EXPECT_EQ(computed, 3u);
  prefill(1, 3, 2);
  std::vector<std::int32_t> tokens{step()[0]->token};
  FinishReason last = FinishReason::none;
  while (last == FinishReason::none) {
    decode(1);
    out = step();
    tokens.push_back(out[0]->token);
    last = out[0]->finish;
  }
  EXPECT_EQ(tokens, expected_tokens(r, vocabulary));
  EXPECT_EQ(last, FinishReason::length);
  EXPECT_EQ(runner->sequences(), 0u);
}

TEST_F(StepRunner, MixesChunksAndDecodesOfSeveralSequencesInOneBatch) {
  const recall_request a{.prompt = {1, 2, 3}, .seed = 1, .max_tokens = 2},
      b{.prompt = {9, 8, 7, 6}, .seed = 2, .max_tokens = 1};
  begin(1, a);
  prefill(1, 0, 3);
  const auto first = step()[0]->token;
  begin(2, b);
  prefill(2, 0, 4);
  decode(1);
  auto out = step();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(computed, 5u);
  EXPECT_EQ(out[0]->token, expected_tokens(b, vocabulary)[0]);
  EXPECT_EQ((std::vector{first, out[1]->token}), expected_tokens(a, vocabulary));
}

TEST_F(StepRunner, LeavesOutSequencesThatHaveEnded) {
  begin(1, {.prompt = {1}, .max_tokens = 1});
  prefill(1, 0, 1);
  EXPECT_EQ(step()[0]->finish, FinishReason::length);
  decode(1);  // planned before the end was known
  EXPECT_TRUE(step().empty());
  EXPECT_EQ(computed, 0u);
}

// Two sequences, one of which ends early, with a step on its way all the time.
TEST_F(StepRunner, StepsAheadGiveTheTokensOfStepsOneByOne) {
  recall_options options;
  options.overlaps = true;
  start(options);
  recall_request a{.prompt = {3, 1, 4}, .seed = 7, .max_tokens = 9},
      b{.prompt = {2, 7}, .seed = 8, .max_tokens = 20};
  b.stop_ids = {expected_tokens(b, vocabulary)[4]};
  begin(1, a);
  begin(2, b);
  prefill(1, 0, 3);
  prefill(2, 0, 2);
  std::vector<std::int32_t> tokens[3];
  const auto take = [&] {
    auto done = runner->collect();
    ASSERT_TRUE(done.has_value());
    std::unique_ptr<wire::StepResultT> r((*done)->UnPack());
    for (const auto& s : r->sequences)
      if (s->token >= 0) tokens[s->sequence].push_back(s->token);
  };
  for (int i = 0; i < 12; ++i) {
    ++plan.step;
    ASSERT_TRUE(runner->enqueue(*message<wire::StepPlan>::pack(plan)).has_value());
    if (runner->uncollected() == 2) take();
    plan = {};
    decode(1);
    decode(2);
  }
  while (runner->uncollected() > 0) take();
  EXPECT_EQ(tokens[1], expected_tokens(a, vocabulary));
  EXPECT_EQ(tokens[2], expected_tokens(b, vocabulary));
  EXPECT_EQ(runner->sequences(), 0u);
}

TEST_F(StepRunner, EndsAtAStopIdAndNamesIt) {
  recall_request r{.prompt = {5, 6}, .seed = 3, .max_tokens = 9};
  const auto free_run = expected_tokens(r, vocabulary);
  r.stop_ids = {free_run[0]};
  begin(1, r);
  prefill(1, 0, 2);
  auto out = step();
  EXPECT_EQ(out[0]->finish, FinishReason::stop);
  EXPECT_EQ(out[0]->stop_token, free_run[0]);
  EXPECT_EQ(out[0]->token, free_run[0]);
}

TEST_F(StepRunner, BansStopIdsBeforeTheLeastNumberOfTokens) {
  recall_request r{.prompt = {5, 6}, .seed = 3, .max_tokens = 3};
  r.stop_ids = expected_tokens(r, vocabulary);
  r.min_tokens = 2;
  begin(1, r);
  prefill(1, 0, 2);
  for (std::size_t i = 0; i < 2; ++i) {
    auto out = step();
    EXPECT_EQ(out[0]->finish, FinishReason::none);
    EXPECT_EQ(out[0]->token, expected_tokens(r, vocabulary)[i]);
    decode(1);
  }
}

TEST_F(StepRunner, ContinuesAHistoryThatWasGeneratedBefore) {
  const recall_request r{.prompt = {2, 7, 1}, .seed = 11, .max_tokens = 5};
  const auto all = expected_tokens(r, vocabulary);
  auto& b = begin(1, r);
  b.history.insert(b.history.end(), all.begin(), all.begin() + 3);
  prefill(1, 0, 6);
  EXPECT_EQ(step()[0]->token, all[3]);
  decode(1);
  auto out = step();
  EXPECT_EQ(out[0]->token, all[4]);
  EXPECT_EQ(out[0]->finish, FinishReason::length);
}

TEST_F(StepRunner, ScoresEveryPromptTokenOnceHoweverThePromptIsCut) {
  const std::vector<std::int32_t> prompt{4, 8, 15, 16, 23};
  for (std::uint32_t cut = 1; cut <= 5; ++cut) {
    start();
    begin(1, {.prompt = prompt, .max_tokens = 2}).prompt_logprobs = 2;
    std::vector<std::unique_ptr<wire::TokenLogprobT>> scores;
    for (std::uint32_t at = 0; at < 5; at += cut) {
      prefill(1, at, std::min(cut, 5 - at));
      auto out = step();
      for (auto& p : out[0]->prompt) scores.push_back(std::move(p));
    }
    ASSERT_EQ(scores.size(), 5u) << "cut " << cut;
    EXPECT_TRUE(std::isnan(scores[0]->logprob));
    for (std::size_t i = 1; i < 5; ++i) {
      const auto state = test::digest_of(std::span(prompt).first(i));
      EXPECT_EQ(scores[i]->token, prompt[i]);
      EXPECT_EQ(scores[i]->logprob, test::logprob_of(state, prompt[i]));
      ASSERT_EQ(scores[i]->top.size(), 2u);
      EXPECT_EQ(scores[i]->top[1].logprob(), test::logprob_of(state, 1));
    }
    decode(1);
    EXPECT_TRUE(step()[0]->prompt.empty());
  }
}

TEST_F(StepRunner, GivesLogProbabilitiesOnlyIfAskedFor) {
  begin(1, {.prompt = {1, 2}, .max_tokens = 2}).top_logprobs = 3;
  begin(2, {.prompt = {1, 2}, .max_tokens = 2});
  prefill(1, 0, 2);
  prefill(2, 0, 2);
  auto out = step();
  EXPECT_EQ(out[0]->logprob, test::logprob_of(test::digest_of(std::vector{1, 2}), out[0]->token));
  EXPECT_EQ(out[0]->top.size(), 3u);
  EXPECT_EQ(out[1]->logprob, 0);
  EXPECT_TRUE(out[1]->top.empty());
}

TEST_F(StepRunner, EndsASequenceWithNonFiniteLogitsAndLetsTheOthersGoOn) {
  const auto broken = test::digest_of(std::vector{6, 6, 6});
  recall_options options;
  options.gives_non_finite = [broken](std::uint64_t state) { return state == broken; };
  start(options);
  begin(1, {.prompt = {6, 6, 6}});
  begin(2, {.prompt = {1, 2, 3}});
  prefill(1, 0, 3);
  prefill(2, 0, 3);
  auto out = step();
  EXPECT_EQ(out[0]->error, error_code::internal);
  EXPECT_NE(out[0]->error_text.find("non-finite"), std::string::npos);
  EXPECT_EQ(out[1]->error, error_code::none);
  EXPECT_GE(out[1]->token, 0);
  EXPECT_EQ(runner->sequences(), 1u);
}

TEST_F(StepRunner, RefusesWhatASequencesBlocksOrHistoryCannotHold) {
  begin(1, {.prompt = {1, 2, 3, 4, 5}}, 1);
  prefill(1, 0, 5);
  begin(2, {.prompt = {1, 2}});
  prefill(2, 1, 2);
  begin(3, {.prompt = {1, static_cast<std::int32_t>(vocabulary)}});
  prefill(3, 0, 2);
  auto out = step();
  ASSERT_EQ(out.size(), 3u);
  for (const auto& s : out) EXPECT_EQ(s->error, error_code::internal) << s->sequence;
  EXPECT_EQ(runner->sequences(), 0u);
}

TEST_F(StepRunner, DropsWhatThePlanEndsBeforeItBegins) {
  begin(1, {.prompt = {1}});
  prefill(1, 0, 1);
  step();
  begin(2, {.prompt = {1}});
  prefill(2, 0, 1);
  plan.end = {1, 77};
  EXPECT_EQ(step().size(), 1u);
  EXPECT_EQ(runner->sequences(), 1u);
}

TEST_F(StepRunner, DropsWhatAPlanEndsThatMayNotBeRun) {
  begin(1, {.prompt = {1}});
  prefill(1, 0, 1);
  step();
  plan.end = {1};
  runner->empty_result(*message<wire::StepPlan>::pack(plan));
  EXPECT_EQ(runner->sequences(), 0u);
}

// ---- recurrent state ----

recall_options recurrent(std::uint32_t slots) {
  recall_options options;
  options.recurrent = true;
  options.state_slots = slots;
  return options;
}

TEST_F(StepRunner, GivesEachSequenceASlotOfItsOwnUntilItsEnd) {
  auto options = recurrent(2);
  std::vector<std::vector<std::uint32_t>> seen;
  options.sees = [&](const ops::step_batch& b) {
    seen.emplace_back(b.state_slots.begin(), b.state_slots.end());
  };
  start(options);
  const recall_request a{.prompt = {3, 1, 4}, .seed = 7, .max_tokens = 3},
      b{.prompt = {1, 5, 9, 2}, .seed = 8, .max_tokens = 2}, c{.prompt = {6, 5}, .seed = 9, .max_tokens = 2};
  begin(1, a);
  begin(2, b);
  prefill(2, 0, 2);
  prefill(1, 0, 3);
  std::vector<std::int32_t> tokens{step()[1]->token};
  EXPECT_EQ(runner->free_slots(), 0u);
  prefill(2, 2, 2);
  decode(1);
  tokens.push_back(step()[1]->token);
  decode(1);
  tokens.push_back(step()[0]->token);
  EXPECT_EQ(tokens, expected_tokens(a, vocabulary));
  EXPECT_EQ(runner->free_slots(), 1u) << "freed by the end of the first";
  begin(3, c);
  prefill(3, 0, 2);
  decode(2);
  auto out = step();
  EXPECT_EQ(out[0]->token, expected_tokens(c, vocabulary)[0]) << "nothing is left of the slot's former state";
  EXPECT_EQ(out[1]->token, expected_tokens(b, vocabulary)[1]);
  EXPECT_EQ(seen[0], (std::vector<std::uint32_t>{1, 0}));
  EXPECT_EQ(seen[1], (std::vector<std::uint32_t>{1, 0}));
  EXPECT_EQ(seen[3], (std::vector<std::uint32_t>{0, 1}));
}

TEST_F(StepRunner, HasSlotsForAFullBatchThatTakesThePlaceOfAnother) {
  start(recurrent(2));
  for (const std::uint64_t id : {1, 2}) {
    begin(id, {.prompt = {1, 2}});
    prefill(id, 0, 2);
  }
  step();
  plan.end = {1, 2};
  for (const std::uint64_t id : {3, 4}) {
    begin(id, {.prompt = {1, 2}});
    prefill(id, 0, 2);
  }
  for (const auto& s : step()) EXPECT_EQ(s->error, error_code::none) << s->error_text;
  EXPECT_EQ(runner->sequences(), 2u);
}

// The step of those that leave is still on the device.
TEST_F(StepRunner, HasSlotsForAFullBatchWhileTheOneBeforeIsNotCollected) {
  auto options = recurrent(2);
  options.overlaps = true;
  for (const bool restarted : {false, true}) {
    start(options);
    plan.incarnation = 1;
    for (const std::uint64_t id : {1, 2}) {
      begin(id, {.prompt = {1, 2}, .max_tokens = 9});
      prefill(id, 0, 2);
    }
    ASSERT_TRUE(runner->enqueue(*message<wire::StepPlan>::pack(plan)).has_value());
    plan = {};
    plan.step = 1;
    plan.incarnation = restarted ? 2 : 1;
    if (!restarted) plan.end = {1, 2};
    const recall_request next{.prompt = {3, 4}, .max_tokens = 9};
    for (const std::uint64_t id : {3, 4}) {
      begin(id, next);
      prefill(id, 0, 2);
    }
    ASSERT_TRUE(runner->enqueue(*message<wire::StepPlan>::pack(plan)).has_value());
    ASSERT_TRUE(runner->collect().has_value());
    auto done = runner->collect();
    ASSERT_TRUE(done.has_value());
    ASSERT_EQ((*done)->sequences()->size(), 2u);
    for (const auto* s : *(*done)->sequences()) {
      EXPECT_EQ(s->error(), error_code::none) << s->error_text()->str();
      EXPECT_EQ(s->token(), expected_tokens(next, vocabulary)[0]);
    }
  }
}

TEST_F(StepRunner, FreesTheSlotsOfAFormerIncarnationAndOfBrokenSequences) {
  auto options = recurrent(2);
  options.gives_non_finite = [](std::uint64_t state) { return state == test::digest_of(std::vector{6, 6}); };
  start(options);
  begin(1, {.prompt = {6, 6}});
  prefill(1, 0, 2);
  step();
  EXPECT_EQ(runner->free_slots(), 2u);
  begin(1, {.prompt = {1}});
  begin(2, {.prompt = {static_cast<std::int32_t>(vocabulary)}});
  prefill(1, 0, 1);
  step();
  EXPECT_EQ(runner->free_slots(), 1u);
  plan.incarnation = 5;
  begin(1, {.prompt = {9}});
  begin(2, {.prompt = {9}});
  step();
  EXPECT_EQ(runner->free_slots(), 0u);
  EXPECT_EQ(runner->sequences(), 2u);
}

TEST_F(StepRunner, RefusesASequenceThatIsOneTooMany) {
  start(recurrent(1));
  begin(1, {.prompt = {1}});
  begin(2, {.prompt = {1}});
  prefill(1, 0, 1);
  prefill(2, 0, 1);
  auto out = step();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0]->sequence, 2u);
  EXPECT_NE(out[0]->error_text.find("no place for its recurrent state"), std::string::npos);
  EXPECT_GE(out[1]->token, 0);
}

TEST_F(StepRunner, NamesNoSlotsForAModelWithoutState) {
  recall_options options;
  std::size_t slots = 1;
  options.sees = [&](const ops::step_batch& b) { slots = b.state_slots.size(); };
  start(options);
  begin(1, {.prompt = {1}});
  prefill(1, 0, 1);
  step();
  EXPECT_EQ(slots, 0u);
}

TEST_F(StepRunner, EndsAllSequencesOfAFormerIncarnationOfTheScheduler) {
  begin(1, {.prompt = {1}});
  begin(2, {.prompt = {1}});
  prefill(1, 0, 1);
  step();
  EXPECT_EQ(runner->sequences(), 2u);
  plan.incarnation = 5;
  begin(1, {.prompt = {9}});
  prefill(1, 0, 1);
  step();
  EXPECT_EQ(runner->sequences(), 1u);
}

TEST_F(StepRunner, PassesABackendsErrorOn) {
  recall_options options;
  options.fails = [] { return true; };
  start(options);
  begin(1, {.prompt = {1}});
  prefill(1, 0, 1);
  auto done = runner->run(*message<wire::StepPlan>::pack(plan));
  ASSERT_FALSE(done.has_value());
  EXPECT_NE(done.error().text.find("told to fail"), std::string::npos);
}

TEST_F(StepRunner, GivesARowOnceToASequenceThatAPlanNamesTwice) {
  begin(1, {.prompt = {1, 2}});
  prefill(1, 0, 2);
  decode(1);
  EXPECT_EQ(step().size(), 1u);
  EXPECT_EQ(computed, 2u);
}

}  // namespace
}  // namespace troupe
