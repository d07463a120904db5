// The activations on vectors, for the activation op and for the experts. An element's result does not depend on where it
// stands in a vector: the end of a row is computed as a whole vector too.
//
// Included once per instruction set (Highway's foreach_target), behind ops/linear/dot_tile-inl.hpp.
#if defined(TROUPE_OPS_ACTIVATION_ACTIVATE) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_OPS_ACTIVATION_ACTIVATE
#undef TROUPE_OPS_ACTIVATION_ACTIVATE
#else
#define TROUPE_OPS_ACTIVATION_ACTIVATE
#endif

#include <hwy/highway.h>

#include <cstring>

#include "ops/activation/activation.hpp"

// clang-format off
#include <hwy/contrib/math/math-inl.h>
#include "ops/linear/dot_tile-inl.hpp"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {

HWY_INLINE vector_f32 silu_lanes(vector_f32 x) {
  const lanes_f32 d;
  // Exp holds up to +104 only; silu(-88) is 0 to float's last digit already.
  const auto minus_x = hn::Min(hn::Neg(x), hn::Set(d, 88.0f));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), hn::Exp(d, minus_x)));
}

HWY_INLINE vector_f32 relu_lanes(vector_f32 x) {
  const lanes_f32 d;
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Zero(d), x);
}

// x/2 (1 + tanh(u)) = x / (1 + e^-2u) = silu with twice the argument inside
HWY_INLINE vector_f32 gelu_tanh_lanes(vector_f32 x) {
  const lanes_f32 d;
  const auto cube = hn::Mul(hn::Mul(x, x), x);
  const auto u = hn::Mul(hn::Set(d, 0.79788456f), hn::MulAdd(hn::Set(d, 0.044715f), cube, x));
  const auto minus_2u = hn::Min(hn::Mul(hn::Set(d, -2.0f), u), hn::Set(d, 88.0f));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), hn::Exp(d, minus_2u)));
}

HWY_INLINE vector_f32 activate_lanes(activation act, vector_f32 x) {
  if (act == activation::relu) return relu_lanes(x);
  return act == activation::silu ? silu_lanes(x) : gelu_tanh_lanes(x);
}

// y[i] = act(x[i]) · factor[i] for i < n; without factor if it is null. y may be x.
HWY_INLINE void activate_row(activation act, float* y, const float* x, const float* factor, std::size_t n) {
  if (act == activation::gelu) {
    for (std::size_t i = 0; i < n; ++i) {
      const float value = 0.5f * x[i] * (1 + std::erf(x[i] * 0.70710678f));
      y[i] = factor == nullptr ? value : value * factor[i];
    }
    return;
  }
  const lanes_f32 d;
  constexpr std::size_t lanes = hn::MaxLanes(lanes_f32());
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    auto value = activate_lanes(act, hn::LoadU(d, x + i));
    if (factor != nullptr) value = hn::Mul(value, hn::LoadU(d, factor + i));
    hn::StoreU(value, d, y + i);
  }
  if (i == n) return;
  HWY_ALIGN float end[2][lanes] = {};
  std::memcpy(end[0], x + i, (n - i) * sizeof(float));
  if (factor != nullptr) std::memcpy(end[1], factor + i, (n - i) * sizeof(float));
  auto value = activate_lanes(act, hn::LoadU(d, end[0]));
  if (factor != nullptr) value = hn::Mul(value, hn::LoadU(d, end[1]));
  hn::StoreU(value, d, end[0]);
  std::memcpy(y + i, end[0], (n - i) * sizeof(float));
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#endif
