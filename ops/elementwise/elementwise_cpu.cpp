// Bound by memory: the compiler's own vectors do.
#include "ops/elementwise/elementwise.hpp"

namespace troupe::ops {
namespace {

constexpr std::size_t part_elements = 64 << 10;  // worth a hand-over between threads

template <class Part>
void over_elements(execution& context, const activations& y, const Part& part) {
  context.threads().parallel_for(y.rows * y.width, part_elements,
                                 [&](std::size_t first, std::size_t last, unsigned) { part(first, last); });
}

}  // namespace

void add_cpu(execution& context, activations y, const_activations a, const_activations b) {
  check_shape(a, y.rows, y.width);
  check_shape(b, y.rows, y.width);
  over_elements(context, y,
                [to = y.data, left = a.data, right = b.data](std::size_t first, std::size_t last) {
                  for (std::size_t i = first; i < last; ++i) to[i] = left[i] + right[i];
                });
}

void mul_cpu(execution& context, activations y, const_activations a, const_activations b) {
  check_shape(a, y.rows, y.width);
  check_shape(b, y.rows, y.width);
  over_elements(context, y,
                [to = y.data, left = a.data, right = b.data](std::size_t first, std::size_t last) {
                  for (std::size_t i = first; i < last; ++i) to[i] = left[i] * right[i];
                });
}

void clamp_cpu(execution& context, activations y, const_activations x, const clamp_range& range) {
  check_shape(x, y.rows, y.width);
  over_elements(context, y, [to = y.data, from = x.data, range](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      const float low = from[i] < range.min ? range.min : from[i];
      to[i] = low > range.max ? range.max : low;
    }
  });
}

}  // namespace troupe::ops
