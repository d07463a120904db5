#include <cmath>

#include "ops/activation/activation.hpp"

namespace troupe::ops {

float activated(activation act, float x) {
  switch (act) {
    case activation::silu:
      return x / (1 + std::exp(-x));
    case activation::gelu:
      return 0.5f * x * (1 + std::erf(x * 0.70710678f));
    case activation::gelu_tanh:
      return 0.5f * x * (1 + std::tanh(0.79788456f * (x + 0.044715f * x * x * x)));
    case activation::relu:
      break;
  }
  return x < 0 ? 0.0f : x;
}

void activation_ref(execution&, activations y, const_activations x, const_activations factor,
                    activation act) {
  check_shape(y, x.rows, x.width);
  for (std::size_t i = 0; i < x.rows * x.width; ++i) {
    const float value = activated(act, x.data[i]);
    y.data[i] = factor.data == nullptr ? value : value * factor.data[i];
  }
}

}  // namespace troupe::ops
