#include <cmath>
#include <cstring>
#include <limits>

#include "ops/sampling/row_scan.hpp"

// clang-format off
#include "ops/device/simd_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/sampling/row_scan_cpu.cpp"
#include <hwy/foreach_target.h>  // before highway.h
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Greatest element; `finite` becomes false if there is NaN or +inf. (x - x is NaN for both and for -inf.)
float greatest(const float* HWY_RESTRICT row, std::size_t n, bool& finite) {
  const hn::ScalableTag<float> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto infinity = hn::Set(d, std::numeric_limits<float>::infinity());
  auto most = hn::Neg(infinity);
  auto below = hn::Eq(most, most);  // all true: every element so far is less than +inf, so not NaN either
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, row + i);
    below = hn::And(below, hn::Lt(v, infinity));
    most = hn::Max(most, v);
  }
  finite = hn::AllTrue(d, below);
  float result = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < n; ++i) {
    if (!(row[i] < std::numeric_limits<float>::infinity())) finite = false;
    if (row[i] > result) result = row[i];
  }
  return result;
}

std::size_t first_equal(const float* HWY_RESTRICT row, std::size_t n, float value) {
  const hn::ScalableTag<float> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto wanted = hn::Set(d, value);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    if (!hn::AllFalse(d, hn::Eq(hn::LoadU(d, row + i), wanted))) break;
  }
  while (i < n && row[i] != value) ++i;
  return i;
}

// An element's weight does not depend on where it stands: the end of the row goes through a whole vector,
// too.
double exp_row(const float* HWY_RESTRICT row, std::size_t n, float shift, float scale,
               float* HWY_RESTRICT weights) {
  const hn::ScalableTag<float> d;
  constexpr std::size_t lanes = hn::MaxLanes(hn::ScalableTag<float>());
  constexpr std::size_t run = 4096;  // summed in f32 lanes, then in f64
  const auto offset = hn::Set(d, shift);
  const auto factor = hn::Set(d, scale);
  double total = 0;
  std::size_t i = 0;
  while (i + lanes <= n) {
    auto sum = hn::Zero(d);
    const std::size_t end = n - i < run ? n : i + run;
    for (; i + lanes <= end; i += lanes) {
      const auto weight = hn::Exp(d, hn::Mul(hn::Sub(hn::LoadU(d, row + i), offset), factor));
      if (weights != nullptr) hn::StoreU(weight, d, weights + i);
      sum = hn::Add(sum, weight);
    }
    total += hn::GetLane(hn::SumOfLanes(d, sum));
  }
  if (i < n) {
    HWY_ALIGN float end[lanes] = {};
    std::memcpy(end, row + i, (n - i) * sizeof(float));
    hn::StoreU(hn::Exp(d, hn::Mul(hn::Sub(hn::LoadU(d, end), offset), factor)), d, end);
    if (weights != nullptr) std::memcpy(weights + i, end, (n - i) * sizeof(float));
    for (std::size_t j = 0; j < n - i; ++j) total += end[j];
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::ops {
namespace {
HWY_EXPORT(greatest);
HWY_EXPORT(first_equal);
HWY_EXPORT(exp_row);
}  // namespace

row_peak find_peak_cpu(std::span<const float> row) {
  bool finite = true;
  const float logit = HWY_DYNAMIC_DISPATCH(greatest)(row.data(), row.size(), finite);
  if (!finite || logit == -std::numeric_limits<float>::infinity()) return {-1, logit, false};
  return {static_cast<std::int32_t>(HWY_DYNAMIC_DISPATCH(first_equal)(row.data(), row.size(), logit)), logit,
          true};
}

double exp_row_cpu(std::span<const float> row, float shift, float scale, std::span<float> weights) {
  return HWY_DYNAMIC_DISPATCH(exp_row)(row.data(), row.size(), shift, scale,
                                       weights.empty() ? nullptr : weights.data());
}

}  // namespace troupe::ops
#endif
