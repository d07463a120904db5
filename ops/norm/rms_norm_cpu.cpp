#include <cmath>

#include "ops/norm/rms_norm.hpp"

// clang-format off
#include "ops/device/simd_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/norm/rms_norm_cpu.cpp"
#include <hwy/foreach_target.h>  // before highway.h
#include <hwy/highway.h>
#include "ops/linear/dot_tile-inl.hpp"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {

float sum_of_squares(const float* HWY_RESTRICT x, std::size_t n) {
  const lanes_f32 d;
  const std::size_t lanes = hn::Lanes(d);
  auto sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    sum = hn::MulAdd(v, v, sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += x[i] * x[i];
  return total;
}

template <class Stored>
void scale_row(float* y, const float* x, const weight_matrix& w, float scale) {
  const lanes_f32 d;
  const std::size_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, scale);
  std::size_t i = 0;
  for (; i + lanes <= w.columns; i += lanes) {
    hn::StoreU(hn::Mul(Stored::load(w.data + i * Stored::bytes), hn::Mul(hn::LoadU(d, x + i), factor)), d,
               y + i);
  }
  for (; i < w.columns; ++i) y[i] = load_element(w.dtype, w.data, i) * (x[i] * scale);
}

void norm_rows(activations y, const_activations x, const weight_matrix& w, float eps, std::size_t first,
               std::size_t last) {
  with_stored(w.dtype, [&](auto stored) HWY_ATTR {
    for (std::size_t t = first; t < last; ++t) {
      const float mean = sum_of_squares(x.row(t), x.width) / static_cast<float>(x.width);
      scale_row<decltype(stored)>(y.row(t), x.row(t), w, 1 / std::sqrt(mean + eps));
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::ops {
namespace {
HWY_EXPORT(norm_rows);
constexpr std::size_t part_elements = 32 << 10;  // worth a hand-over between threads
}  // namespace

void rms_norm_cpu(execution& context, activations y, const_activations x, const weight_matrix& w, float eps) {
  check_shape(y, x.rows, x.width);
  const auto kernel = HWY_DYNAMIC_DISPATCH(norm_rows);
  context.threads().parallel_for(
      x.rows, part_elements / (x.width + 1) + 1,
      [&](std::size_t first, std::size_t last, unsigned) { kernel(y, x, w, eps, first, last); });
}

}  // namespace troupe::ops
#endif
