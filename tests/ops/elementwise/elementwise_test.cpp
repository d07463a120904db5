#include "ops/elementwise/elementwise.hpp"

#include <cmath>

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

class Elementwise : public OpTest {};
TROUPE_ON_ALL_VERSIONS(Elementwise);

TEST_P(Elementwise, AddAddsElementByElementAlsoInPlace) {
  for (const std::size_t rows : {1u, 3u, 1000u}) {
    const auto a = random_matrix(rows, 77, 2);
    auto b = random_matrix(rows, 77, 3);
    matrix expected(rows, 77);
    for (std::size_t i = 0; i < a.values.size(); ++i) expected.values[i] = a.values[i] + b.values[i];
    matrix y(rows, 77);
    ops().add(context(), y.view(), a.view(), b.view());
    EXPECT_TRUE(same_bits(y, expected));
    ops().add(context(), b.view(), a.view(), b.view());
    EXPECT_TRUE(same_bits(b, expected));
  }
}

TEST_P(Elementwise, MulMultipliesElementByElementAlsoInPlace) {
  for (const std::size_t rows : {1u, 3u, 1000u}) {
    const auto a = random_matrix(rows, 77, 2);
    auto b = random_matrix(rows, 77, 3);
    matrix expected(rows, 77);
    for (std::size_t i = 0; i < a.values.size(); ++i) expected.values[i] = a.values[i] * b.values[i];
    matrix y(rows, 77);
    ops().mul(context(), y.view(), a.view(), b.view());
    EXPECT_TRUE(same_bits(y, expected));
    ops().mul(context(), b.view(), a.view(), b.view());
    EXPECT_TRUE(same_bits(b, expected));
  }
}

TEST_P(Elementwise, ClampMovesNumbersIntoTheRangeAlsoInPlace) {
  for (const std::size_t rows : {1u, 3u, 1000u}) {
    auto x = random_matrix(rows, 77, 4, 10);
    matrix y(rows, 77);
    ops().clamp(context(), y.view(), x.view(), {-8, 5.5f});
    for (std::size_t i = 0; i < x.values.size(); ++i) {
      const float expected = x.values[i] < -8 ? -8 : x.values[i] > 5.5f ? 5.5f : x.values[i];
      ASSERT_EQ(y.values[i], expected);
    }
    ops().clamp(context(), x.view(), x.view(), {-8, 5.5f});
    EXPECT_TRUE(same_bits(x, y));
  }
}

TEST_P(Elementwise, ClampKeepsWhatIsNoNumberAndStopsInfinities) {
  matrix x(1, 40);
  const float infinity = std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < 40; ++i) x.at(0, i) = i % 4 == 0 ? NAN : i % 4 == 1 ? infinity : -infinity;
  ops().clamp(context(), x.view(), x.view(), {-8, 8});
  for (std::size_t i = 0; i < 40; ++i) {
    if (i % 4 == 0) {
      EXPECT_TRUE(std::isnan(x.at(0, i)));
    } else {
      EXPECT_EQ(x.at(0, i), i % 4 == 1 ? 8 : -8);
    }
  }
}

}  // namespace
}  // namespace troupe::ops
