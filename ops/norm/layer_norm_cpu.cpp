#include <cmath>

#include "ops/norm/layer_norm.hpp"

// clang-format off
#include "ops/device/simd_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/norm/layer_norm_cpu.cpp"
#include <hwy/foreach_target.h>  // before highway.h
#include <hwy/highway.h>
#include "ops/linear/dot_tile-inl.hpp"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {

float row_sum(const float* HWY_RESTRICT x, std::size_t n) {
  const lanes_f32 d;
  const std::size_t lanes = hn::Lanes(d);
  auto sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) sum = hn::Add(sum, hn::LoadU(d, x + i));
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += x[i];
  return total;
}

float sum_of_squared_deviations(const float* HWY_RESTRICT x, std::size_t n, float mean) {
  const lanes_f32 d;
  const std::size_t lanes = hn::Lanes(d);
  const auto middle = hn::Set(d, mean);
  auto sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto deviation = hn::Sub(hn::LoadU(d, x + i), middle);
    sum = hn::MulAdd(deviation, deviation, sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += (x[i] - mean) * (x[i] - mean);
  return total;
}

template <class Stored>
void center_and_scale(float* y, const float* x, const weight_matrix& w, float mean, float scale) {
  const lanes_f32 d;
  const std::size_t lanes = hn::Lanes(d);
  const auto middle = hn::Set(d, mean);
  const auto factor = hn::Set(d, scale);
  std::size_t i = 0;
  for (; i + lanes <= w.columns; i += lanes) {
    const auto centered = hn::Mul(hn::Sub(hn::LoadU(d, x + i), middle), factor);
    hn::StoreU(hn::Mul(Stored::load(w.data + i * Stored::bytes), centered), d, y + i);
  }
  for (; i < w.columns; ++i) y[i] = load_element(w.dtype, w.data, i) * ((x[i] - mean) * scale);
}

template <class Stored>
void add_bias(float* y, const weight_matrix& bias) {
  const lanes_f32 d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= bias.columns; i += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, y + i), Stored::load(bias.data + i * Stored::bytes)), d, y + i);
  }
  for (; i < bias.columns; ++i) y[i] += load_element(bias.dtype, bias.data, i);
}

void layer_norm_rows(activations y, const_activations x, const layer_norm_weights& w, float eps,
                     std::size_t first, std::size_t last) {
  const auto count = static_cast<float>(x.width);
  for (std::size_t t = first; t < last; ++t) {
    const float mean = row_sum(x.row(t), x.width) / count;
    const float variance = sum_of_squared_deviations(x.row(t), x.width, mean) / count;
    const float scale = 1 / std::sqrt(variance + eps);
    with_stored(w.scale.dtype, [&](auto stored) HWY_ATTR {
      center_and_scale<decltype(stored)>(y.row(t), x.row(t), w.scale, mean, scale);
    });
    if (w.bias.data == nullptr) continue;
    with_stored(w.bias.dtype, [&](auto stored) HWY_ATTR { add_bias<decltype(stored)>(y.row(t), w.bias); });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::ops {
namespace {
HWY_EXPORT(layer_norm_rows);
constexpr std::size_t part_elements = 32 << 10;  // worth a hand-over between threads
}  // namespace

void layer_norm_cpu(execution& context, activations y, const_activations x, const layer_norm_weights& w,
                    float eps) {
  check_shape(y, x.rows, x.width);
  const auto kernel = HWY_DYNAMIC_DISPATCH(layer_norm_rows);
  context.threads().parallel_for(
      x.rows, part_elements / (x.width + 1) + 1,
      [&](std::size_t first, std::size_t last, unsigned) { kernel(y, x, w, eps, first, last); });
}

}  // namespace troupe::ops
#endif
