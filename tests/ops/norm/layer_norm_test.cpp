#include "ops/norm/layer_norm.hpp"

#include <cmath>

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

class LayerNorm : public OpTest {};
TROUPE_ON_ALL_VERSIONS(LayerNorm);

TEST_P(LayerNorm, CentersDividesByTheDeviationAndScales) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const std::size_t width : {1u, 3u, 16u, 31u, 256u, 1000u}) {
      for (const bool with_bias : {false, true}) {
        const auto x = random_matrix(70, width, 1, 3);
        const auto w = random_weights(1, width, dtype, 2);
        const auto bias = random_weights(1, width, DType::bf16, 3);
        matrix y(x.rows, width);
        ops().layer_norm(context(), y.view(), x.view(), {w.view(), with_bias ? bias.view() : weight_matrix{}},
                         1e-5f);
        for (std::size_t t = 0; t < x.rows; ++t) {
          double mean = 0, variance = 0;
          for (std::size_t n = 0; n < width; ++n) mean += x.at(t, n) / static_cast<double>(width);
          for (std::size_t n = 0; n < width; ++n)
            variance += (x.at(t, n) - mean) * (x.at(t, n) - mean) / static_cast<double>(width);
          for (std::size_t n = 0; n < width; ++n) {
            const double expected = (x.at(t, n) - mean) / std::sqrt(variance + 1e-5) * w.at(0, n) +
                                    (with_bias ? bias.at(0, n) : 0);
            ASSERT_NEAR(y.at(t, n), expected, 3e-6 * (1 + std::abs(expected)));
          }
        }
      }
    }
  }
}

TEST_P(LayerNorm, AMeanFarFromZeroCostsNoPrecision) {
  auto x = random_matrix(4, 300, 6);
  auto shifted = x;
  for (float& value : shifted.values) value += 1024;
  for (std::size_t i = 0; i < x.values.size(); ++i) x.values[i] = shifted.values[i] - 1024;  // as rounded
  const auto w = random_weights(1, 300, DType::bf16, 7);
  matrix plain(4, 300), moved(4, 300);
  ops().layer_norm(context(), plain.view(), x.view(), {w.view(), {}}, 1e-5f);
  ops().layer_norm(context(), moved.view(), shifted.view(), {w.view(), {}}, 1e-5f);
  for (std::size_t i = 0; i < x.values.size(); ++i) ASSERT_NEAR(moved.values[i], plain.values[i], 1e-2);
}

TEST_P(LayerNorm, ARowAloneEqualsTheRowAmongOthersBitForBit) {
  const auto x = random_matrix(300, 250, 3);
  const auto w = random_weights(1, 250, DType::bf16, 4);
  matrix together(300, 250);
  ops().layer_norm(context(), together.view(), x.view(), {w.view(), {}}, 1e-6f);
  for (std::size_t t = 0; t < x.rows; ++t) {
    auto alone = x.slice(t, t + 1);
    ops().layer_norm(context(), alone.view(), alone.view(), {w.view(), {}}, 1e-6f);  // in place
    ASSERT_TRUE(same_bits(alone, together.slice(t, t + 1)));
  }
}

TEST_P(LayerNorm, ARowOfEqualNumbersBecomesZero) {
  matrix x(2, 40);
  for (float& value : x.values) value = 3;
  const auto w = random_weights(1, 40, DType::bf16, 5);
  ops().layer_norm(context(), x.view(), x.view(), {w.view(), {}}, 1e-5f);
  for (const float value : x.values) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace troupe::ops
