#include "ops/rope/rope.hpp"

#include <cmath>

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

class Rope : public OpTest {
 protected:
  matrix run(const matrix& x, std::span<const std::int32_t> positions, const rope_shape& shape,
             double theta = 10000) {
    std::vector<float> frequencies(shape.rotary_dim / 2);
    rope_frequencies(frequencies, shape.rotary_dim, theta);
    matrix cosines(x.rows, frequencies.size()), sines(x.rows, frequencies.size()), y(x.rows, x.width);
    rope_angles(context(), cosines.view(), sines.view(), positions, frequencies);
    ops().rope(context(), y.view(), x.view(), {cosines.view(), sines.view()}, shape);
    return y;
  }
};
TROUPE_ON_ALL_VERSIONS(Rope);

std::vector<std::int32_t> positions_from(std::int32_t first, std::size_t count) {
  std::vector<std::int32_t> positions;
  for (std::size_t i = 0; i < count; ++i) positions.push_back(first + static_cast<std::int32_t>(i));
  return positions;
}

TEST_P(Rope, RotatesEachPairByPositionTimesFrequency) {
  for (const bool interleaved : {false, true}) {
    for (const rope_shape shape : {rope_shape{8, 8, interleaved}, rope_shape{32, 32, interleaved},
                                   rope_shape{20, 6, interleaved}, rope_shape{128, 64, interleaved}}) {
      const auto x = random_matrix(40, 3 * shape.head_dim, 1);
      const auto positions = positions_from(5, 40);
      const auto y = run(x, positions, shape);
      for (std::size_t t = 0; t < x.rows; ++t) {
        for (std::size_t head = 0; head < 3; ++head) {
          const std::size_t at = head * shape.head_dim;
          for (std::size_t j = 0; j < shape.rotary_dim / 2; ++j) {
            const double angle = positions[t] * std::pow(10000.0, -2.0 * static_cast<double>(j) /
                                                                      static_cast<double>(shape.rotary_dim));
            const std::size_t a = at + (interleaved ? 2 * j : j);
            const std::size_t b = interleaved ? a + 1 : a + shape.rotary_dim / 2;
            ASSERT_NEAR(y.at(t, a), x.at(t, a) * std::cos(angle) - x.at(t, b) * std::sin(angle), 3e-5);
            ASSERT_NEAR(y.at(t, b), x.at(t, b) * std::cos(angle) + x.at(t, a) * std::sin(angle), 3e-5);
          }
          for (std::size_t j = shape.rotary_dim; j < shape.head_dim; ++j)
            ASSERT_EQ(y.at(t, at + j), x.at(t, at + j));
        }
      }
    }
  }
}

TEST_P(Rope, TheAmplitudeMultipliesWhatRotates) {
  const auto x = random_matrix(3, 24, 4);
  const auto positions = positions_from(7, 3);
  const std::vector<float> frequencies{0.5f, 0.01f};
  matrix cosines(3, 2), sines(3, 2), plain(3, 24), y(3, 24);
  rope_angles(context(), cosines.view(), sines.view(), positions, frequencies);
  ops().rope(context(), plain.view(), x.view(), {cosines.view(), sines.view()}, {6, 4, false});
  rope_angles(context(), cosines.view(), sines.view(), positions, frequencies, 1.5f);
  ops().rope(context(), y.view(), x.view(), {cosines.view(), sines.view()}, {6, 4, false});
  for (std::size_t t = 0; t < 3; ++t) {
    for (std::size_t i = 0; i < 24; ++i)
      ASSERT_NEAR(y.at(t, i), plain.at(t, i) * (i % 6 < 4 ? 1.5f : 1), 1e-6);
  }
}

TEST_P(Rope, PositionZeroChangesNothing) {
  const auto x = random_matrix(1, 64, 2);
  EXPECT_TRUE(same_bits(run(x, positions_from(0, 1), {32, 32, false}), x));
}

TEST_P(Rope, ARowAloneEqualsTheRowAmongOthersBitForBit) {
  const auto x = random_matrix(200, 128, 3);
  const auto positions = positions_from(1000, 200);
  const auto together = run(x, positions, {32, 32, false}, 1e6);
  for (std::size_t t = 0; t < x.rows; ++t) {
    ASSERT_TRUE(same_bits(run(x.slice(t, t + 1), {&positions[t], 1}, {32, 32, false}, 1e6),
                          together.slice(t, t + 1)));
  }
}

}  // namespace
}  // namespace troupe::ops
