#include "ops/device/simd_name.hpp"

// clang-format off
#include "ops/device/simd_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/device/simd_name.cpp"
#include <hwy/foreach_target.h>  // before highway.h
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {
const char* compiled_name() {
  return hwy::TargetName(HWY_TARGET);
}
}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::ops {
HWY_EXPORT(compiled_name);
const char* simd_name() {
  return HWY_DYNAMIC_DISPATCH(compiled_name)();
}
}  // namespace troupe::ops
#endif
