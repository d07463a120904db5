#include "ops/moe/router.hpp"

#include <cmath>

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

struct choice {
  matrix weights;
  std::vector<std::int32_t> experts;
};

class Router : public OpTest {
 protected:
  choice run(const matrix& x, const router_rule& rule) {
    choice made{matrix(x.rows, rule.top_k), std::vector<std::int32_t>(x.rows * rule.top_k)};
    ops().router(context(), made.weights.view(), {made.experts.data(), x.rows, rule.top_k}, x.view(), rule);
    return made;
  }
  choice run(std::vector<float> row, const router_rule& rule) {
    matrix x(1, row.size());
    x.values = std::move(row);
    return run(x, rule);
  }
};
TROUPE_ON_ALL_VERSIONS(Router);

TEST_P(Router, TakesTheLikeliestByTheSoftmaxOverAll) {
  const auto made = run({0, std::log(4.0f), std::log(2.0f), 0}, {2, false, false});
  EXPECT_EQ(made.experts, (std::vector<std::int32_t>{1, 2}));
  EXPECT_NEAR(made.weights.at(0, 0), 0.5, 1e-6);
  EXPECT_NEAR(made.weights.at(0, 1), 0.25, 1e-6);
}

TEST_P(Router, NormalizedWeightsSumToOne) {
  const auto made = run({0, std::log(4.0f), std::log(2.0f), 0}, {2, false, true});
  EXPECT_NEAR(made.weights.at(0, 0), 2.0 / 3, 1e-6);
  EXPECT_NEAR(made.weights.at(0, 1), 1.0 / 3, 1e-6);
}

TEST_P(Router, WeightsAreDividedByTheNormOfThePowerThatIsAskedFor) {
  const std::vector<float> row{0, std::log(4.0f), std::log(2.0f), 0};  // softmax: 1/8, 1/2, 1/4, 1/8
  const auto euclid = run(row, {2, false, true, 2});
  EXPECT_NEAR(euclid.weights.at(0, 0), 2 / std::sqrt(5.0), 1e-6);
  EXPECT_NEAR(euclid.weights.at(0, 1), 1 / std::sqrt(5.0), 1e-6);
  const auto half = run(row, {2, false, true, 0.5f});
  const double norm = std::pow(std::sqrt(0.5) + std::sqrt(0.25), 2);
  EXPECT_NEAR(half.weights.at(0, 0), 0.5 / norm, 1e-6);
  EXPECT_NEAR(half.weights.at(0, 1), 0.25 / norm, 1e-6);
}

TEST_P(Router, TheScaleMultipliesTheWeightsAtTheEnd) {
  const std::vector<float> row{0, std::log(4.0f), std::log(2.0f), 0};
  EXPECT_NEAR(run(row, {2, false, true, 1, 2.5f}).weights.at(0, 0), 2.5 * 2 / 3, 1e-6);
  EXPECT_NEAR(run(row, {2, false, false, 1, 2.5f}).weights.at(0, 1), 2.5 / 4, 1e-6);
}

TEST_P(Router, SigmoidScoresEachExpertAlone) {
  const auto made = run({-1, 0, 3}, {2, true, false});
  EXPECT_EQ(made.experts, (std::vector<std::int32_t>{2, 1}));
  EXPECT_NEAR(made.weights.at(0, 0), 1 / (1 + std::exp(-3.0)), 1e-6);
  EXPECT_NEAR(made.weights.at(0, 1), 0.5, 1e-6);
}

TEST_P(Router, AmongEqualsTheLowerIndexIsTaken) {
  EXPECT_EQ(run({1, 2, 2, 2, 1}, {2, false, true}).experts, (std::vector<std::int32_t>{1, 2}));
  EXPECT_EQ(run({0, 0, 0, 0}, {4, false, true}).experts, (std::vector<std::int32_t>{0, 1, 2, 3}));
}

TEST_P(Router, LargeLogitsDoNotOverflow) {
  const auto made = run({1e4f, 1e4f, -1e4f}, {2, false, true});
  EXPECT_NEAR(made.weights.at(0, 0), 0.5, 1e-6);
}

TEST_P(Router, NotANumberStillChoosesDistinctExpertsInRange) {
  const auto made = run({NAN, NAN, NAN}, {2, false, true});
  EXPECT_EQ(made.experts, (std::vector<std::int32_t>{0, 1}));
}

TEST_P(Router, NotANumberAmongNumbersRanksLast) {
  for (const bool sigmoid : {false, true}) {
    const auto made = run({0.5f, NAN, 2, 1}, {2, sigmoid, false});
    if (sigmoid) {
      EXPECT_EQ(made.experts, (std::vector<std::int32_t>{2, 3}));
    }
    EXPECT_NE(made.experts[0], made.experts[1]);
  }
}

TEST_P(Router, ARowAloneEqualsTheRowAmongOthersBitForBit) {
  for (const std::size_t experts : {1u, 8u, 16u, 60u}) {
    const auto x = random_matrix(300, experts, 1, 2);
    const router_rule rule{std::min<std::size_t>(experts, 4), false, true};
    const auto together = run(x, rule);
    for (std::size_t t = 0; t < x.rows; ++t) {
      const auto alone = run(x.slice(t, t + 1), rule);
      ASSERT_TRUE(same_bits(alone.weights, together.weights.slice(t, t + 1)));
      for (std::size_t i = 0; i < rule.top_k; ++i)
        ASSERT_EQ(alone.experts[i], together.experts[t * rule.top_k + i]);
    }
  }
}

}  // namespace
}  // namespace troupe::ops
