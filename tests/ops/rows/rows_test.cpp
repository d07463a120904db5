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

TEST_P(Rows, AddAddsElementByElementAlsoInPlace) {
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
