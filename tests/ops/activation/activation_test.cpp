#include "ops/activation/activation.hpp"

#include <cmath>

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

constexpr activation all_kinds[] = {activation::silu, activation::gelu, activation::relu,
                                    activation::gelu_tanh};

double formula(activation act, double x) {
  switch (act) {
    case activation::silu:
      return x / (1 + std::exp(-x));
    case activation::gelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case activation::gelu_tanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case activation::relu:
      break;
  }
  return std::max(x, 0.0);
}

class Activation : public OpTest {};
TROUPE_ON_ALL_VERSIONS(Activation);

TEST_P(Activation, EqualsTheFormulaInDoublePrecision) {
  for (const activation act : all_kinds) {
    for (const std::size_t rows : {1u, 300u}) {
      const auto x = random_matrix(rows, 77, 1, 3);
      matrix y(rows, 77);
      ops().activation(context(), y.view(), x.view(), {}, act);
      for (std::size_t i = 0; i < x.values.size(); ++i)
        ASSERT_NEAR(y.values[i], formula(act, x.values[i]), 1e-6 + 1e-6 * std::abs(x.values[i]))
            << x.values[i];
    }
  }
}

TEST_P(Activation, TheFactorMultipliesTheResultAlsoInPlace) {
  for (const activation act : all_kinds) {
    auto x = random_matrix(200, 77, 2);
    const auto factor = random_matrix(200, 77, 3);
    matrix plain(200, 77), y(200, 77);
    ops().activation(context(), plain.view(), x.view(), {}, act);
    ops().activation(context(), y.view(), x.view(), factor.view(), act);
    for (std::size_t i = 0; i < x.values.size(); ++i)
      ASSERT_EQ(y.values[i], plain.values[i] * factor.values[i]);
    ops().activation(context(), x.view(), x.view(), factor.view(), act);
    EXPECT_TRUE(same_bits(x, y));
  }
}

TEST_P(Activation, ARowAloneEqualsTheRowAmongOthersBitForBit) {
  const auto x = random_matrix(500, 77, 4, 2);
  for (const activation act : all_kinds) {
    matrix together(500, 77);
    ops().activation(context(), together.view(), x.view(), {}, act);
    for (std::size_t t = 0; t < x.rows; ++t) {
      auto alone = x.slice(t, t + 1);
      ops().activation(context(), alone.view(), alone.view(), {}, act);
      ASSERT_TRUE(same_bits(alone, together.slice(t, t + 1)));
    }
  }
}

TEST_P(Activation, LargeNumbersDoNotOverflowAndWhatIsNoNumberStaysSo) {
  for (const activation act : all_kinds) {
    matrix x(1, 40);
    for (std::size_t i = 0; i < 40; ++i)
      x.at(0, i) = i % 4 == 0 ? 1000.0f : i % 4 == 1 ? -1000.0f : i % 4 == 2 ? NAN : 0;
    matrix y(1, 40);
    ops().activation(context(), y.view(), x.view(), {}, act);
    for (std::size_t i = 0; i < 40; i += 4) {
      EXPECT_EQ(y.at(0, i), 1000);
      EXPECT_NEAR(y.at(0, i + 1), 0, 1e-30);
      EXPECT_TRUE(std::isnan(y.at(0, i + 2)));
      EXPECT_EQ(y.at(0, i + 3), 0);
    }
  }
}

}  // namespace
}  // namespace troupe::ops
