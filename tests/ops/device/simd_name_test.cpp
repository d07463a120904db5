#include "ops/device/simd_name.hpp"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <string>

namespace troupe::ops {
namespace {

TEST(SimdName, IsTheBestSetThatTheMachineHas) {
  const std::string best = simd_name();
  EXPECT_FALSE(best.empty());
  if ((hwy::SupportedTargets() & HWY_AVX2) == 0) GTEST_SKIP() << "no AVX2 here";
  hwy::SetSupportedTargetsForTest(~std::int64_t{HWY_AVX2 - 1});
  const std::string lesser = simd_name();
  hwy::SetSupportedTargetsForTest(0);
  EXPECT_EQ(lesser, "AVX2");
  EXPECT_EQ(simd_name(), best);
}

}  // namespace
}  // namespace troupe::ops
