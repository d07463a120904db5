#include "actors/tokenizer/stream_state.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "actors/tokenizer/utf8.hpp"
#include "tests/actors/tokenizer/deltas.hpp"
#include "tests/actors/tokenizer/requests.hpp"

namespace troupe::text::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr auto stopped = wire::FinishReason::stop;
constexpr auto out_of_length = wire::FinishReason::length;

std::vector<std::int32_t> ids_of(std::string_view text) {
  return demo_tokenizer()->encode(text, false);
}

class Stream : public ::testing::Test {
 protected:
  void open(const wire::GenerateT& g) {
    auto admitted = admit_it(demo_model(), g);
    ASSERT_TRUE(admitted.has_value()) << admitted.error().text;
    stream_.emplace(1, std::move(*admitted), demo_tokenizer());
  }
  // One token at a time, as a scheduler would tell.
  void feed(const std::vector<std::int32_t>& ids, std::uint32_t choice = 0) {
    for (const auto id : ids) apply({.choice = choice, .tokens = {id}});
  }
  void apply(const delta& d) {
    last_ = stream_->apply(*packed(d), 5'001'000);
    seen_.read(last_);
  }

  std::optional<stream_state> stream_;
  stream_state::outcome last_;
  transcript seen_;
};

// How many steps one delta tells of depends on how busy the worker is. What the client is told must not.
struct stop_case {
  const char* name;
  std::string text;
  std::vector<std::string> strings;
  bool include = false;
  std::uint32_t min_tokens = 0;
};

class StopStrings : public ::testing::TestWithParam<stop_case> {
 protected:
  // All that a client is told of the case's text, the end told by the scheduler at its last token.
  static transcript told(wire::FinishReason finish, bool merged) {
    const auto& p = GetParam();
    auto g = id_request({1, 5});
    g.logprobs = true;
    stop(g).strings = p.strings;
    stop(g).include_stop_string = p.include;
    stop(g).min_tokens = p.min_tokens;
    auto admitted = admit_it(demo_model(), g);
    EXPECT_TRUE(admitted) << admitted.error().text;
    stream_state stream(1, std::move(*admitted), demo_tokenizer());
    transcript seen;
    for (const auto& d : deltas_of(ids_of(p.text), finish, merged))
      seen.read(stream.apply(*packed(d), 5'001'000));
    return seen;
  }

 private:
  static std::vector<delta> deltas_of(std::vector<std::int32_t> ids, wire::FinishReason finish, bool merged) {
    const bool by_id = finish == stopped;
    if (by_id) ids.push_back(2);
    const auto usage = [](std::size_t generated) {
      return wire::SequenceUsage(2, 1, static_cast<std::uint32_t>(generated), 1'000'000, 2'000'000);
    };
    std::vector<delta> list;
    if (merged)
      list.push_back({.tokens = ids});
    else
      for (const auto id : ids) list.push_back({.tokens = {id}});
    list.front().usage = usage(1);
    list.back().finish = finish;
    list.back().stop_token = by_id ? 2 : -1;
    list.back().usage = usage(ids.size());
    return list;
  }
};

TEST_P(StopStrings, EndInTheSameFinalWhetherTheTokensComeOneByOneOrAtOnce) {
  for (const auto finish : {out_of_length, stopped}) {
    const auto singly = told(finish, false);
    const auto at_once = told(finish, true);
    ASSERT_TRUE(singly.final && at_once.final);
    EXPECT_EQ(singly.text, at_once.text);
    EXPECT_EQ(singly.tokens, at_once.tokens);
    const auto one = message<wire::Final>::pack(*singly.final);
    const auto other = message<wire::Final>::pack(*at_once.final);
    EXPECT_TRUE(std::ranges::equal(one.bytes(), other.bytes()))
        << "generated " << singly.final->usage->generated_tokens << " one by one, "
        << at_once.final->usage->generated_tokens << " at once";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, StopStrings,
    ::testing::Values(stop_case{"in_the_middle", "one STOP two three four", {"STOP"}},
                      stop_case{"included", "one STOP two three four", {"STOP"}, true},
                      stop_case{"across_tokens", "this is the end of it", {"the end", "never"}},
                      stop_case{"at_the_last_token", "this is the end", {"the end"}},
                      stop_case{"behind_min_tokens", "stop here and stop there", {"stop"}, false, 4},
                      stop_case{"unfinished", "this is the end", {"the endless"}},
                      stop_case{"none", "nothing to be seen", {"STOP"}},
                      stop_case{"in_half_a_code_point", "a 😀 b 😀 c", {"😀"}}),
    [](const auto& one) { return std::string(one.param.name); });

TEST_F(Stream, GivesOutTheDecodingOfItsTokens) {
  open(id_request({1, 5}));
  const std::string text = "Le garçon mange une crêpe. 日本語 😀 naïve";
  feed(ids_of(text));
  apply({.finish = out_of_length});
  EXPECT_EQ(seen_.text[0], text);
  ASSERT_TRUE(seen_.final);
  EXPECT_EQ(seen_.final->choices.at(0)->finish, out_of_length);
}

TEST_F(Stream, NeverGivesOutHalfACodePoint) {
  open(id_request({1, 5}));
  for (const auto id : ids_of("a 😀 b")) {
    apply({.tokens = {id}});
    for (const auto& r : last_.replies)
      if (const auto* c = r->body_as_Chunk()) {
        EXPECT_TRUE(utf8::is_valid(c->text()->string_view()));
      }
  }
  apply({.finish = out_of_length});
  EXPECT_EQ(seen_.text[0], "a 😀 b");
}

TEST_F(Stream, LeavesTheEndOfSequenceOutOfTheText) {
  auto g = id_request({1, 5});
  g.skip_special_tokens = false;
  g.logprobs = true;
  open(g);
  feed(ids_of("hello"));
  apply({.tokens = {2}, .finish = stopped, .stop_token = 2});
  EXPECT_EQ(seen_.text[0], "hello");
  EXPECT_EQ(seen_.tokens[0], ids_of("hello"));
  EXPECT_EQ(seen_.final->choices.at(0)->stop_token, 2);
}

TEST_F(Stream, EndsAtAStopStringAcrossTokensAndTellsTheScheduler) {
  auto g = id_request({1, 5});
  stop(g).strings = {"the end", "never"};
  open(g);
  feed(ids_of("this is the end of it"));
  EXPECT_EQ(seen_.text[0], "this is ");
  ASSERT_TRUE(seen_.final);
  EXPECT_EQ(seen_.final->choices.at(0)->finish, stopped);
  EXPECT_EQ(seen_.final->choices.at(0)->stop_string, "the end");
  EXPECT_EQ(seen_.final->choices.at(0)->stop_token, -1);
}

TEST_F(Stream, AsksToDropAChoiceWhoseStopStringWasSeen) {
  auto g = id_request({1, 5});
  stop(g).strings = {"end"};
  open(g);
  const auto ids = ids_of("the end");
  for (const auto id : ids) {
    apply({.tokens = {id}});
    if (last_.ended) break;
  }
  EXPECT_THAT(last_.stop_choices, ElementsAre(0U));
}

TEST_F(Stream, DoesNotAskToDropAChoiceThatEndedByItself) {
  auto g = id_request({1, 5});
  stop(g).strings = {"end"};
  open(g);
  apply({.tokens = ids_of("the end"), .finish = out_of_length});
  EXPECT_THAT(last_.stop_choices, IsEmpty());
  EXPECT_EQ(seen_.final->choices.at(0)->finish, stopped);
}

TEST_F(Stream, GivesTheStopStringOutIfAsked) {
  auto g = id_request({1, 5});
  stop(g).strings = {"the end"};
  stop(g).include_stop_string = true;
  open(g);
  feed(ids_of("this is the end of it"));
  EXPECT_EQ(seen_.text[0], "this is the end");
}

TEST_F(Stream, GivesHeldBackTextOutIfTheStopStringStaysUnfinished) {
  auto g = id_request({1, 5});
  stop(g).strings = {"the endless"};
  open(g);
  feed(ids_of("this is the end"));
  EXPECT_EQ(seen_.text[0], "this is ");
  apply({.finish = out_of_length});
  EXPECT_EQ(seen_.text[0], "this is the end");
}

TEST_F(Stream, DoesNotLookForStopStringsBeforeMinTokens) {
  auto g = id_request({1, 5});
  const auto early = ids_of("stop here and");
  stop(g).strings = {"stop"};
  stop(g).min_tokens = static_cast<std::uint32_t>(early.size());
  open(g);
  feed(ids_of("stop here and stop there"));
  EXPECT_EQ(seen_.text[0], "stop here and ");
}

TEST_F(Stream, GivesATokenOnlyWithItsText) {
  auto g = id_request({1, 5});
  g.logprobs = true;
  stop(g).strings = {"the end"};
  open(g);
  const auto ids = ids_of("this is the end of it");
  feed(ids);
  const auto kept = ids_of("this is");
  EXPECT_EQ(std::vector(seen_.tokens[0].begin(), seen_.tokens[0].begin() + static_cast<long>(kept.size())),
            kept);
  EXPECT_LE(seen_.tokens[0].size(), kept.size() + 1) << "a token whose first byte alone was given may follow";
}

TEST_F(Stream, GivesTheTokensOfACodePointTogether) {
  auto g = id_request({1, 5});
  g.logprobs = true;
  open(g);
  const auto ids = ids_of("😀");
  ASSERT_GT(ids.size(), 2U);
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    apply({.tokens = {ids[i]}});
    EXPECT_TRUE(seen_.text[0].empty());
  }
  apply({.tokens = {ids.back()}, .finish = out_of_length});
  EXPECT_EQ(seen_.text[0], "😀");
  EXPECT_EQ(seen_.tokens[0], ids);
}

TEST_F(Stream, LeavesTokensOutUnlessAskedFor) {
  open(id_request({1, 5}));
  feed(ids_of("hello there"));
  EXPECT_THAT(seen_.tokens[0], IsEmpty());
}

TEST_F(Stream, TellsTheBytesAndAlternativesOfATokenIfAsked) {
  auto g = id_request({1, 5});
  g.logprobs = true;
  g.top_logprobs = 1;
  open(g);
  const auto ids = ids_of("hello there");
  apply({.tokens = ids});
  const auto* chunk = last_.replies.at(0)->body_as_Chunk();
  const auto* token = chunk->tokens()->Get(1);
  const auto bytes = demo_tokenizer()->token_bytes(ids.at(1));
  EXPECT_EQ(std::string(token->text()->begin(), token->text()->end()), bytes);
  EXPECT_FLOAT_EQ(token->logprob(), -0.5F);
  EXPECT_THAT(*token->top(), SizeIs(1));
}

TEST_F(Stream, EchoesThePromptAndContinuesItsText) {
  auto g = text_request("Once upon a");
  g.echo = true;
  g.n = 2;
  open(g);
  feed(ids_of("time"), 0);
  feed(ids_of("hill"), 1);
  apply({.choice = 0, .finish = out_of_length});
  apply({.choice = 1, .finish = out_of_length});
  EXPECT_EQ(seen_.text[0], "Once upon a time");
  EXPECT_EQ(seen_.text[1], "Once upon a hill");
}

TEST_F(Stream, DoesNotLookForStopStringsInTheEchoedPrompt) {
  auto g = text_request("Once upon a");
  g.echo = true;
  stop(g).strings = {"upon"};
  open(g);
  feed(ids_of("time"));
  EXPECT_FALSE(seen_.final);
  EXPECT_EQ(seen_.text[0], "Once upon a time");
}

TEST_F(Stream, PutsTheFirstPromptTokenWithoutALogprobInFront) {
  auto g = id_request({1, 5, 6});
  g.prompt_logprobs = 1;
  open(g);
  apply({.tokens = {7}, .prompt = {5, 6}});
  EXPECT_THAT(seen_.prompt, ElementsAre(1, 5, 6));
  EXPECT_TRUE(std::isnan(last_.replies.at(0)->body_as_Chunk()->prompt()->Get(0)->logprob()));
}

TEST_F(Stream, TakesPromptLogprobsAsTheyAreIfTheyAreWhole) {
  auto g = id_request({1, 5, 6});
  g.prompt_logprobs = 1;
  open(g);
  apply({.tokens = {7}, .prompt = {1, 5, 6}});
  EXPECT_THAT(seen_.prompt, ElementsAre(1, 5, 6));
}

TEST_F(Stream, CollectsEachChoiceIntoOneChunkIfNotStreaming) {
  auto g = id_request({1, 5});
  g.stream = false;
  g.n = 2;
  open(g);
  feed(ids_of("first of them"), 0);
  feed(ids_of("second"), 1);
  EXPECT_THAT(seen_.chunks, IsEmpty());
  apply({.choice = 1, .finish = out_of_length});
  apply({.choice = 0, .finish = out_of_length});
  EXPECT_EQ(seen_.chunks[0], 1);
  EXPECT_EQ(seen_.chunks[1], 1);
  EXPECT_EQ(seen_.text[0], "first of them");
  EXPECT_TRUE(seen_.final);
}

TEST_F(Stream, SumsUsageOverChoices) {
  auto g = id_request({1, 5, 6});
  g.n = 2;
  open(g);
  feed(ids_of("some words"), 0);
  apply({.choice = 0, .finish = out_of_length, .usage = wire::SequenceUsage(3, 2, 10, 1'000'000, 2'000'000)});
  apply({.choice = 1,
         .finish = stopped,
         .stop_token = 2,
         .usage = wire::SequenceUsage(3, 3, 20, 9'000'000, 9'000'000)});
  ASSERT_TRUE(seen_.final);
  const auto& u = *seen_.final->usage;
  EXPECT_EQ(u.prompt_tokens, 3U);
  EXPECT_EQ(u.cached_tokens, 2U);
  EXPECT_EQ(u.generated_tokens, 30U);
  EXPECT_DOUBLE_EQ(u.queue_ms, 1);
  EXPECT_DOUBLE_EQ(u.first_token_ms, 2);
  EXPECT_DOUBLE_EQ(u.total_ms, 5);
  EXPECT_EQ(seen_.final->choices.at(1)->generated_tokens, 20U);
  EXPECT_EQ(seen_.final->choices.at(1)->seed, seen_.final->choices.at(0)->seed + 1);
}

TEST_F(Stream, FailsAsAWholeIfOneChoiceFails) {
  auto g = id_request({1, 5});
  g.n = 2;
  open(g);
  apply({.choice = 1, .error = error_code::deadline_exceeded, .error_text = "too late"});
  ASSERT_TRUE(seen_.error);
  EXPECT_EQ(seen_.error->code, error_code::deadline_exceeded);
  EXPECT_EQ(seen_.error->text, "too late");
  EXPECT_TRUE(last_.drop_all);
  apply({.choice = 0, .tokens = {5}, .finish = out_of_length});
  EXPECT_THAT(last_.replies, IsEmpty());
}

TEST_F(Stream, CancelGivesHeldBackTextAndTellsWhichChoicesWereCut) {
  auto g = id_request({1, 5});
  g.n = 2;
  stop(g).strings = {"the endless"};
  open(g);
  apply({.choice = 1, .tokens = ids_of("done"), .finish = out_of_length});
  feed(ids_of("the end"), 0);
  last_ = stream_->cancel(6'000);
  seen_.read(last_);
  EXPECT_EQ(seen_.text[0], "the end");
  EXPECT_TRUE(last_.drop_all);
  ASSERT_TRUE(seen_.final);
  EXPECT_EQ(seen_.final->choices.at(0)->finish, wire::FinishReason::cancelled);
  EXPECT_EQ(seen_.final->choices.at(1)->finish, out_of_length);
  EXPECT_THAT(stream_->cancel(7'000).replies, IsEmpty());
}

TEST_F(Stream, IsSubmittedAgainWithItsTokensAndOnlyForChoicesThatRun) {
  auto g = id_request({1, 5});
  g.n = 2;
  open(g);
  EXPECT_THAT(stream_->submits(), SizeIs(2));
  apply({.choice = 0, .tokens = {7, 8}});
  apply({.choice = 1, .tokens = {9}, .finish = out_of_length});
  const auto again = stream_->submits();
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0]->choice(), 0U);
  EXPECT_THAT(std::vector<int>(again[0]->generated()->begin(), again[0]->generated()->end()),
              ElementsAre(7, 8));
}

TEST_F(Stream, IgnoresChoicesThatItDoesNotHave) {
  open(id_request({1, 5}));
  apply({.choice = 7, .tokens = {7, 8}});
  EXPECT_THAT(last_.replies, IsEmpty());
}

}  // namespace
}  // namespace troupe::text::testing
