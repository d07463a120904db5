#include "ops/elementwise/elementwise.hpp"

namespace troupe::ops {

void add_ref(execution&, activations y, const_activations a, const_activations b) {
  check_shape(a, y.rows, y.width);
  check_shape(b, y.rows, y.width);
  for (std::size_t i = 0; i < y.rows * y.width; ++i) y.data[i] = a.data[i] + b.data[i];
}

void mul_ref(execution&, activations y, const_activations a, const_activations b) {
  check_shape(a, y.rows, y.width);
  check_shape(b, y.rows, y.width);
  for (std::size_t i = 0; i < y.rows * y.width; ++i) y.data[i] = a.data[i] * b.data[i];
}

void clamp_ref(execution&, activations y, const_activations x, const clamp_range& range) {
  check_shape(x, y.rows, y.width);
  for (std::size_t i = 0; i < y.rows * y.width; ++i) {
    const float value = x.data[i];
    y.data[i] = value < range.min ? range.min : value > range.max ? range.max : value;
  }
}

}  // namespace troupe::ops
