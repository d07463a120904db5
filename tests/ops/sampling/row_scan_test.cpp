#include "ops/sampling/row_scan.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace troupe::ops {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<float> random_row(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 5);
  std::vector<float> row(size);
  for (float& value : row) value = normal(random);
  return row;
}

struct scan_version {
  const char* name;
  row_peak (*find_peak)(std::span<const float>);
  double (*exp_row)(std::span<const float>, float, float, std::span<float>);
};

class RowScan : public ::testing::TestWithParam<scan_version> {};
INSTANTIATE_TEST_SUITE_P(Version, RowScan,
                         ::testing::Values(scan_version{"ref", find_peak_ref, exp_row_ref},
                                           scan_version{"fast", find_peak_cpu, exp_row_cpu}),
                         [](const auto& version) { return std::string(version.param.name); });

TEST_P(RowScan, FindsThePeakWhereverItStands) {
  for (const std::size_t size : {1u, 2u, 15u, 16u, 17u, 100u}) {
    for (std::size_t at = 0; at < size; ++at) {
      auto row = random_row(size, 1);
      row[at] = 100;
      const auto peak = GetParam().find_peak(row);
      EXPECT_TRUE(peak.finite);
      EXPECT_EQ(peak.token, static_cast<std::int32_t>(at));
      EXPECT_EQ(peak.logit, 100);
    }
  }
}

TEST_P(RowScan, AmongEqualPeaksTheLowestIdIsTaken) {
  std::vector<float> row(50, -1.0f);
  row[20] = row[3] = row[49] = 2;
  EXPECT_EQ(GetParam().find_peak(row).token, 3);
}

TEST_P(RowScan, ReportsNanAndInfinityWhereverTheyStand) {
  for (const float bad : {NAN, infinity}) {
    for (std::size_t at = 0; at < 37; ++at) {
      auto row = random_row(37, 2);
      row[at] = bad;
      EXPECT_FALSE(GetParam().find_peak(row).finite) << at;
    }
  }
}

TEST_P(RowScan, MinusInfinityIsFineUnlessItIsTheWholeRow) {
  std::vector<float> row(40, -infinity);
  EXPECT_FALSE(GetParam().find_peak(row).finite);
  row[33] = -1e30f;
  EXPECT_TRUE(GetParam().find_peak(row).finite);
  EXPECT_EQ(GetParam().find_peak(row).token, 33);
}

TEST_P(RowScan, ExponentialsAreExactEnoughAndSummed) {
  for (const std::size_t size : {1u, 7u, 16u, 33u, 5000u, 32000u}) {
    auto row = random_row(size, 3);
    row[size / 2] = -infinity;
    std::vector<float> weights(size);
    const double sum = GetParam().exp_row(row, 20, 0.7f, weights);
    double expected = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const double weight = std::exp((double{row[i]} - 20) * 0.7f);
      ASSERT_NEAR(weights[i], weight, 4e-6 * weight + 1e-30);
      expected += weight;
    }
    EXPECT_NEAR(sum, expected, 2e-6 * expected);
    EXPECT_EQ(GetParam().exp_row(row, 20, 0.7f, {}), sum);
  }
}

TEST_P(RowScan, ThePeaksOwnWeightIsOne) {
  const std::vector<float> row{-3, 8.25f, 2};
  std::vector<float> weights(3);
  GetParam().exp_row(row, 8.25f, 1e30f, weights);
  EXPECT_EQ(weights, (std::vector<float>{0, 1, 0}));
}

}  // namespace
}  // namespace troupe::ops
