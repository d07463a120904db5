#include <cmath>

#include "ops/norm/rms_norm.hpp"

namespace troupe::ops {

void rms_norm_ref(execution&, activations y, const_activations x, const weight_matrix& w, float eps) {
  check_shape(y, x.rows, x.width);
  for (std::size_t t = 0; t < x.rows; ++t) {
    float squares = 0;
    for (std::size_t n = 0; n < x.width; ++n) squares += x.row(t)[n] * x.row(t)[n];
    const float scale = 1 / std::sqrt(squares / static_cast<float>(x.width) + eps);
    for (std::size_t n = 0; n < x.width; ++n)
      y.row(t)[n] = load_element(w.dtype, w.data, n) * (x.row(t)[n] * scale);
  }
}

}  // namespace troupe::ops
