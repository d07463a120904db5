#include <cmath>

#include "ops/norm/layer_norm.hpp"

namespace troupe::ops {

void layer_norm_ref(execution&, activations y, const_activations x, const layer_norm_weights& w, float eps) {
  check_shape(y, x.rows, x.width);
  const auto count = static_cast<float>(x.width);
  for (std::size_t t = 0; t < x.rows; ++t) {
    float sum = 0;
    for (std::size_t n = 0; n < x.width; ++n) sum += x.row(t)[n];
    const float mean = sum / count;
    float squares = 0;
    for (std::size_t n = 0; n < x.width; ++n) squares += (x.row(t)[n] - mean) * (x.row(t)[n] - mean);
    const float scale = 1 / std::sqrt(squares / count + eps);
    for (std::size_t n = 0; n < x.width; ++n) {
      float value = load_element(w.scale.dtype, w.scale.data, n) * ((x.row(t)[n] - mean) * scale);
      if (w.bias.data != nullptr) value += load_element(w.bias.dtype, w.bias.data, n);
      y.row(t)[n] = value;
    }
  }
}

}  // namespace troupe::ops
