#include "ops/sampling/sampler.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "ops/sampling/philox.hpp"

namespace troupe::ops {
namespace {

using ::testing::ElementsAre;

constexpr float infinity = std::numeric_limits<float>::infinity();

// Logits that give these probabilities.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 3);
  return logits;
}

std::vector<float> random_logits(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(size);
  for (float& value : logits) value = normal(random);
  return logits;
}

// How often each token came out at positions 0 .. draws-1.
std::map<std::int32_t, int> count_draws(const std::vector<float>& logits, const sampling_params& params,
                                        int draws, sampling_context context = {}) {
  sampler one;
  std::map<std::int32_t, int> counts;
  for (int i = 0; i < draws; ++i) {
    context.position = static_cast<std::uint64_t>(i);
    ++counts[one.sample(logits, params, context).token];
  }
  return counts;
}

std::vector<std::int32_t> tokens_drawn(const std::vector<float>& logits, const sampling_params& params,
                                       const sampling_context& context = {}) {
  std::vector<std::int32_t> tokens;
  for (const auto& [token, count] : count_draws(logits, params, 3000, context)) tokens.push_back(token);
  return tokens;
}

// Chi-square of the counts under the probabilities: its mean is the number of classes less one.
double chi_square(const std::map<std::int32_t, int>& counts, const std::vector<double>& probabilities,
                  int draws) {
  double sum = 0;
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    const auto found = counts.find(static_cast<std::int32_t>(i));
    const double expected = probabilities[i] * draws;
    const double seen = found == counts.end() ? 0 : found->second;
    if (expected > 0) sum += (seen - expected) * (seen - expected) / expected;
  }
  return sum;
}

std::int32_t greedy(const std::vector<float>& logits, sampling_params params,
                    const sampling_context& context = {}) {
  params.temperature = 0;
  return sampler().sample(logits, params, context).token;
}

TEST(Philox, GivesThePublishedNumbers) {
  // Known answers of the authors' Random123 library.
  EXPECT_THAT(philox4x32({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(Sampler, GreedyTakesTheLikeliestLowestIdAmongEquals) {
  EXPECT_EQ(greedy({1, 5, 2}, {}), 1);
  EXPECT_EQ(greedy({1, 5, 5, 5}, {}), 1);
  EXPECT_EQ(greedy({-infinity, -7, -infinity}, {}), 1);
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const std::vector<double> probabilities{0.4, 0.05, 0.3, 0.1, 0.15};
  sampling_params params;
  for (const std::uint64_t seed : {0u, 1u, 77u}) {
    params.seed = seed;
    // 4 degrees of freedom: above 18.5 once in a thousand.
    EXPECT_LT(chi_square(count_draws(logits_of(probabilities), params, 20000), probabilities, 20000), 18.5);
  }
}

TEST(Sampler, DrawsOverSeedsFollowTheDistributionToo) {
  const std::vector<double> probabilities{0.4, 0.05, 0.3, 0.1, 0.15};
  const auto logits = logits_of(probabilities);
  sampler one;
  std::map<std::int32_t, int> counts;
  for (std::uint64_t seed = 0; seed < 20000; ++seed) {
    sampling_params params;
    params.seed = seed;
    ++counts[one.sample(logits, params, {}).token];
  }
  EXPECT_LT(chi_square(counts, probabilities, 20000), 18.5);
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  sampling_params params;
  params.temperature = 0.5f;
  EXPECT_LT(
      chi_square(count_draws(logits_of({0.6, 0.3, 0.1}), params, 20000), {36. / 46, 9. / 46, 1. / 46}, 20000),
      13.8);
  params.temperature = 2;
  const double sum = std::sqrt(0.6) + std::sqrt(0.3) + std::sqrt(0.1);
  EXPECT_LT(chi_square(count_draws(logits_of({0.6, 0.3, 0.1}), params, 20000),
                       {std::sqrt(0.6) / sum, std::sqrt(0.3) / sum, std::sqrt(0.1) / sum}, 20000),
            13.8);
}

TEST(Sampler, ATinyTemperatureIsGreedy) {
  sampling_params params;
  params.temperature = 1e-40f;
  EXPECT_THAT(tokens_drawn({1, 1.001f, 1}, params), ElementsAre(1));
}

TEST(Sampler, TopKKeepsTheKLikeliest) {
  sampling_params params;
  params.top_k = 2;
  EXPECT_THAT(tokens_drawn({0, 1, 2, 1.5f}, params), ElementsAre(2, 3));
  params.top_k = 1;
  EXPECT_THAT(tokens_drawn({0, 1, 2, 1.5f}, params), ElementsAre(2));
  params.top_k = 2;
  EXPECT_THAT(tokens_drawn({0, 0, 0, 0}, params), ElementsAre(0, 1)) << "lower ids among equals";
}

TEST(Sampler, TopKRenormalizes) {
  sampling_params params;
  params.top_k = 2;
  const auto counts = count_draws(logits_of({0.1, 0.6, 0.3}), params, 20000);
  EXPECT_LT(chi_square(counts, {0, 2. / 3, 1. / 3}, 20000), 10.8);
}

TEST(Sampler, TopKChoosesAlikeForLargeAndSmallRows) {
  auto logits = random_logits(4096, 1);
  std::vector<std::size_t> order(logits.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
  for (const std::uint32_t k : {1u, 3u, 40u, 511u, 513u, 3000u}) {
    sampling_params params;
    params.top_k = k;
    params.temperature = 100;  // nearly uniform
    for (const std::int32_t token : tokens_drawn(logits, params)) {
      EXPECT_GE(logits[static_cast<std::size_t>(token)], logits[order[k - 1]]) << k;
    }
  }
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  const auto logits = logits_of({0.1, 0.5, 0.15, 0.25});
  sampling_params params;
  params.top_p = 0.45f;
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(1));
  params.top_p = 0.6f;
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(1, 3));
  params.top_p = 0.85f;
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(1, 2, 3));
  params.top_p = 1e-30f;
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(1)) << "never empty";
}

TEST(Sampler, TopPLooksAsFarAsItMustInALargeRow) {
  // 1000 equal tokens among 4096: 0.5 keeps the first 500 ids.
  std::vector<float> logits(4096, -50.0f);
  for (std::size_t i = 0; i < 1000; ++i) logits[3 * i] = 1;
  sampling_params params;
  params.top_p = 0.4999f;
  sampler one;
  std::int32_t highest = 0;
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const auto token = one.sample(logits, params, {{}, 0, i}).token;
    EXPECT_EQ(token % 3, 0);
    highest = std::max(highest, token / 3);
  }
  EXPECT_LT(highest, 500);
  EXPECT_GT(highest, 480);
}

TEST(Sampler, TopPIsTakenOfWhatTopKLeft) {
  const auto logits = logits_of({0.4, 0.3, 0.2, 0.1});
  sampling_params params;
  params.top_k = 2;
  params.top_p = 0.56f;  // 0.4 of 0.7 = 0.571: enough alone after top-k, not before it
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(0));
  params.top_k = 0;
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(0, 1));
}

TEST(Sampler, MinPDropsWhatIsFarBelowTheLikeliest) {
  const auto logits = logits_of({0.5, 0.26, 0.2, 0.04});
  sampling_params params;
  params.min_p = 0.5f;
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(0, 1));
  params.min_p = 0.3f;
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(0, 1, 2));
  params.min_p = 1;
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(0));
}

TEST(Sampler, MinPIsTakenAfterTheTemperature) {
  const auto logits = logits_of({0.8, 0.2});
  sampling_params params;
  params.min_p = 0.4f;
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(0));
  params.temperature = 2;  // now 2 : 1
  EXPECT_THAT(tokens_drawn(logits, params), ElementsAre(0, 1));
}

TEST(Sampler, RepetitionDividesPositiveAndMultipliesNegativeLogitsOnce) {
  sampling_params params;
  params.repetition_penalty = 2;
  const std::vector<std::int32_t> history{0, 0, 0, 3};  // all of it prompt
  // 4 / 2 = 2 is still above 1.9; twice would be 1.
  EXPECT_EQ(greedy({4, 1.9f, 0, -9}, params, {history, 4}), 0);
  EXPECT_EQ(greedy({4, 2.1f, 0, -9}, params, {history, 4}), 1);
  EXPECT_EQ(greedy({-9, -9, -2.1f, -1}, params, {history, 4}), 3);
  EXPECT_EQ(greedy({-9, -9, -1.9f, -1}, params, {history, 4}), 2);
}

TEST(Sampler, PresenceAndFrequencyCountOnlyGeneratedTokens) {
  sampling_params presence, frequency;
  presence.presence_penalty = 1;
  frequency.frequency_penalty = 1;
  const std::vector<std::int32_t> history{0, 0, 0, 1, 1};
  EXPECT_EQ(greedy({3, 2.5f}, presence, {history, 5}), 0) << "all prompt";
  EXPECT_EQ(greedy({3, 2.5f}, presence, {history, 2}), 0) << "both once";
  EXPECT_EQ(greedy({3, 2.5f, 2.1f}, frequency, {history, 3}), 0) << "1 counts twice";
  EXPECT_EQ(greedy({2, 4.2f, 2.1f}, frequency, {history, 3}), 1);
  EXPECT_EQ(greedy({2, 4.0f, 2.1f}, frequency, {history, 3}), 2);
  EXPECT_EQ(greedy({3, 2.5f, 2.1f}, presence, {history, 0}), 2) << "3 - 1 and 2.5 - 1";
}

TEST(Sampler, NegativePenaltiesFavour) {
  sampling_params params;
  params.presence_penalty = -1;
  const std::vector<std::int32_t> history{1};
  EXPECT_EQ(greedy({3, 2.5f}, params, {history, 0}), 1);
}

TEST(Sampler, PenaltiesLeaveNothingBehindForTheNextCall) {
  sampler one;
  sampling_params params;
  params.temperature = 0;
  params.frequency_penalty = 1;
  const std::vector<std::int32_t> first{0, 0, 0}, second{1};
  one.sample(std::vector<float>{3, 2}, params, {first, 0});
  EXPECT_EQ(one.sample(std::vector<float>{3, 2}, params, {second, 0}).token, 0);
}

TEST(Sampler, BiasIsAddedBeforePenalties) {
  sampling_params params;
  params.logit_bias = {{1, 2.0f}};
  EXPECT_EQ(greedy({1, 0, 0}, params), 1);
  params.logit_bias = {{0, -100.0f}};
  EXPECT_EQ(greedy({1, 0, 0}, params), 1);
  // (1 + 3) / 2 = 2 < 2.2, but 1 / 2 + 3 would be more.
  params.logit_bias = {{0, 3.0f}};
  params.repetition_penalty = 2;
  const std::vector<std::int32_t> history{0};
  EXPECT_EQ(greedy({1, 2.2f}, params, {history, 1}), 1);
}

TEST(Sampler, BannedTokensAreNeverChosenWhateverTheirBias) {
  sampling_params params;
  params.logit_bias = {{2, 100.0f}};
  const std::vector<std::int32_t> banned{2, 0, 3};
  EXPECT_EQ(greedy({5, 1, 9, 5}, params, {{}, 0, 0, banned}), 1);
  EXPECT_THAT(tokens_drawn({5, 1, 9, 5}, params, {{}, 0, 0, banned}), ElementsAre(1));
}

TEST(Sampler, IdsOutsideTheVocabularyAreIgnored) {
  sampling_params params;
  params.logit_bias = {{-1, 50.0f}, {3, 50.0f}};
  params.repetition_penalty = 2;
  const std::vector<std::int32_t> odd{-5, 3, 1000000};
  EXPECT_EQ(greedy({1, 3, 2}, params, {odd, 1, 0, odd}), 1);
}

TEST(Sampler, RowsThatAreNotFiniteAreReported) {
  for (const float bad : {NAN, infinity, -infinity}) {
    const std::vector<float> row(20, bad);
    const auto result = sampler().sample(row, {}, {{}, 0, 0, {}, 5});
    EXPECT_FALSE(result.finite);
    EXPECT_EQ(result.token, -1);
    EXPECT_FALSE(sampler().score(row, 0, 0).finite);
  }
}

TEST(Sampler, WhenEveryTokenIsBannedTheAnswerIsNotFinite) {
  const std::vector<std::int32_t> banned{0, 1};
  const auto result = sampler().sample(std::vector<float>{1, 2}, {}, {{}, 0, 0, banned});
  EXPECT_FALSE(result.finite);
  EXPECT_EQ(result.token, -1);
}

TEST(Sampler, NeutralValuesChangeNoDraw) {
  const auto logits = random_logits(500, 2);
  sampling_params plain, neutral;
  neutral.top_k = 500;
  neutral.top_p = 0.9999999f;  // below 1, and still every token that weighs anything
  neutral.logit_bias = {{7, 0.0f}};
  neutral.repetition_penalty = 1;
  const std::vector<std::int32_t> history{1, 2, 3};
  sampler one;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    EXPECT_EQ(one.sample(logits, plain, {history, 1, i}).token,
              one.sample(logits, neutral, {history, 1, i}).token);
  }
}

TEST(Sampler, TheDrawDependsOnSeedAndPositionAlone) {
  const auto logits = random_logits(1000, 3);
  sampling_params params;
  params.seed = 42;
  sampler first, second;
  std::vector<std::int32_t> forward, backward;
  for (std::uint64_t i = 0; i < 200; ++i) forward.push_back(first.sample(logits, params, {{}, 0, i}).token);
  for (std::uint64_t i = 200; i-- > 0;) backward.push_back(second.sample(logits, params, {{}, 0, i}).token);
  EXPECT_TRUE(std::equal(forward.begin(), forward.end(), backward.rbegin()));
  params.seed = 43;
  std::vector<std::int32_t> other;
  for (std::uint64_t i = 0; i < 200; ++i) other.push_back(first.sample(logits, params, {{}, 0, i}).token);
  EXPECT_NE(forward, other);
}

TEST(Sampler, LogprobsAreThoseOfTheRawRow) {
  const std::vector<double> probabilities{0.2, 0.5, 0.3};
  sampling_params params;
  params.temperature = 0;
  params.logit_bias = {{0, 50.0f}};
  const auto result = sampler().sample(logits_of(probabilities), params, {{}, 0, 0, {}, 2});
  EXPECT_EQ(result.token, 0);
  EXPECT_NEAR(result.logprob, std::log(0.2), 1e-5);
  ASSERT_EQ(result.top.size(), 2u);
  EXPECT_EQ(result.top[0].token, 1);
  EXPECT_NEAR(result.top[0].logprob, std::log(0.5), 1e-5);
  EXPECT_EQ(result.top[1].token, 2);
  EXPECT_NEAR(result.top[1].logprob, std::log(0.3), 1e-5);
}

TEST(Sampler, LogprobsCanBeAskedWithoutAlternatives) {
  const auto result = sampler().sample(logits_of({0.25, 0.75}), {}, {{}, 0, 0, {}, 0});
  EXPECT_TRUE(result.top.empty());
  EXPECT_NEAR(result.logprob, std::log(result.token == 0 ? 0.25 : 0.75), 1e-5);
}

TEST(Sampler, ScoreGivesAnyTokensLogprobAndOrderedAlternatives) {
  const auto result = sampler().score(logits_of({0.1, 0.4, 0.4, 0.1}), 3, 10);
  EXPECT_EQ(result.token, 3);
  EXPECT_NEAR(result.logprob, std::log(0.1), 1e-5);
  std::vector<std::int32_t> order;
  for (const auto& one : result.top) order.push_back(one.token);
  EXPECT_THAT(order, ElementsAre(1, 2, 0, 3)) << "lower id first among equals, all of a small vocabulary";
}

TEST(Sampler, LogprobsOfALongRowSumToOne) {
  const auto logits = random_logits(32000, 4);
  const auto result = sampler().score(logits, 5, 32000);
  double sum = 0;
  for (const auto& one : result.top) sum += std::exp(double{one.logprob});
  EXPECT_NEAR(sum, 1, 1e-5);
}

}  // namespace
}  // namespace troupe::ops
