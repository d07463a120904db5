#include "ops/rows/rows.hpp"

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

class Rows : public OpTest {};
TROUPE_ON_ALL_VERSIONS(Rows);

TEST_P(Rows, EmbedTakesEachTokensRow) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    const auto table = random_weights(50, 129, dtype, 1);
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < 700; ++i) tokens.push_back(i * 7 % 50);
    matrix y(tokens.size(), 129);
    ops().embed(context(), y.view(), tokens, table.view());
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      for (std::size_t n = 0; n < 129; ++n) ASSERT_EQ(y.at(t, n), table.at(tokens[t], n));
    }
  }
}

TEST_P(Rows, SelectRowsCopiesTheAskedOnes) {
  const auto x = random_matrix(10, 33, 4);
  const std::vector<std::uint32_t> rows{0, 3, 4, 9};
  matrix y(4, 33);
  ops().select_rows(context(), y.view(), x.view(), rows);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    EXPECT_TRUE(same_bits(y.slice(r, r + 1), x.slice(rows[r], rows[r] + 1)));
  }
  ops().select_rows(context(), {nullptr, 0, 33}, x.view(), {});
}

TEST_P(Rows, SplitGivesTheColumnsInOrderAndConcatPutsThemTogetherAgain) {
  for (const std::size_t rows : {1u, 5u, 900u}) {
    const auto x = random_matrix(rows, 70, 5);
    matrix a(rows, 1), b(rows, 48), c(rows, 21), y(rows, 70);
    const std::vector<activations> parts{a.view(), b.view(), c.view()};
    ops().split(context(), parts, x.view());
    for (std::size_t t = 0; t < rows; ++t) {
      ASSERT_EQ(a.at(t, 0), x.at(t, 0));
      ASSERT_TRUE(same_bits(&b.values[t * 48], &x.values[t * 70 + 1], 48));
      ASSERT_TRUE(same_bits(&c.values[t * 21], &x.values[t * 70 + 49], 21));
    }
    ops().concat(context(), y.view(), std::vector<const_activations>{a.view(), b.view(), c.view()});
    EXPECT_TRUE(same_bits(y, x));
  }
}

TEST(Numbers, F16CoversSubnormalsInfinityAndSigns) {
  EXPECT_EQ(f16_to_float(0x3c00), 1.0f);
  EXPECT_EQ(f16_to_float(0xc000), -2.0f);
  EXPECT_EQ(f16_to_float(0x7bff), 65504.0f);
  EXPECT_EQ(f16_to_float(0x0001), 0x1p-24f);
  EXPECT_EQ(f16_to_float(0x83ff), -0x3ffp-24f);
  EXPECT_EQ(f16_to_float(0x7c00), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::signbit(f16_to_float(0x8000)));
  EXPECT_NE(f16_to_float(0x7e00), f16_to_float(0x7e00));
}

}  // namespace
}  // namespace troupe::ops
