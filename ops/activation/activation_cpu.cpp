#include <cmath>

#include "ops/activation/activation.hpp"

// clang-format off
#include "ops/device/simd_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/activation/activation_cpu.cpp"
#include <hwy/foreach_target.h>  // before highway.h
#include <hwy/highway.h>
#include "ops/activation/activate-inl.hpp"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {

// Elements [first, last), however many rows they are.
void activate_elements(const activations& y, const const_activations& x, const const_activations& factor,
                       activation act, std::size_t first, std::size_t last) {
  activate_row(act, y.data + first, x.data + first, factor.data == nullptr ? nullptr : factor.data + first,
               last - first);
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::ops {
namespace {
HWY_EXPORT(activate_elements);
constexpr std::size_t part_elements = 16 << 10;  // worth a hand-over between threads
}  // namespace

void activation_cpu(execution& context, activations y, const_activations x, const_activations factor,
                    activation act) {
  check_shape(y, x.rows, x.width);
  const auto kernel = HWY_DYNAMIC_DISPATCH(activate_elements);
  context.threads().parallel_for(
      x.rows * x.width, part_elements,
      [&](std::size_t first, std::size_t last, unsigned) { kernel(y, x, factor, act, first, last); });
}

}  // namespace troupe::ops
#endif
