#include "ops/norm/rms_norm.hpp"

#include <cmath>

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

class RmsNorm : public OpTest {};
TROUPE_ON_ALL_VERSIONS(RmsNorm);

TEST_P(RmsNorm, DividesByTheRootOfTheMeanSquareAndScales) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const std::size_t width : {1u, 3u, 16u, 31u, 256u, 1000u}) {
      for (const std::size_t rows : {1u, 7u, 400u}) {
        const auto x = random_matrix(rows, width, 1, 3);
        const auto w = random_weights(1, width, dtype, 2);
        matrix y(rows, width);
        ops().rms_norm(context(), y.view(), x.view(), w.view(), 1e-5f);
        for (std::size_t t = 0; t < rows; ++t) {
          double squares = 0;
          for (std::size_t n = 0; n < width; ++n) squares += double{x.at(t, n)} * x.at(t, n);
          const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
          for (std::size_t n = 0; n < width; ++n) {
            const double expected = x.at(t, n) * scale * w.at(0, n);
            ASSERT_NEAR(y.at(t, n), expected, 2e-6 * std::abs(expected) + 1e-7);
          }
        }
      }
    }
  }
}

TEST_P(RmsNorm, ARowAloneEqualsTheRowAmongOthersBitForBit) {
  const auto x = random_matrix(300, 250, 3);
  const auto w = random_weights(1, 250, DType::bf16, 4);
  matrix together(300, 250);
  ops().rms_norm(context(), together.view(), x.view(), w.view(), 1e-6f);
  for (std::size_t t = 0; t < x.rows; ++t) {
    auto alone = x.slice(t, t + 1);
    ops().rms_norm(context(), alone.view(), alone.view(), w.view(), 1e-6f);  // in place
    ASSERT_TRUE(same_bits(alone, together.slice(t, t + 1)));
  }
}

TEST_P(RmsNorm, ARowOfZerosStaysZero) {
  matrix x(2, 40);
  const auto w = random_weights(1, 40, DType::bf16, 5);
  ops().rms_norm(context(), x.view(), x.view(), w.view(), 1e-5f);
  for (const float value : x.values) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace troupe::ops
