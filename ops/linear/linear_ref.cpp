#include "ops/linear/linear.hpp"

namespace troupe::ops {

void linear_ref(execution&, const_activations x, std::span<const linear_map> maps) {
  for (const auto& map : maps) {
    check_shape(map.y, x.rows, map.weight.rows);
    check_shape(x, x.rows, map.weight.columns);
    for (std::size_t t = 0; t < x.rows; ++t) {
      for (std::size_t m = 0; m < map.weight.rows; ++m) {
        const std::byte* w = map.weight.row(m);
        float sum = 0;
        for (std::size_t n = 0; n < x.width; ++n) sum += x.row(t)[n] * load_element(map.weight.dtype, w, n);
        if (map.bias.data != nullptr) sum += load_element(map.bias.dtype, map.bias.data, m);
        map.y.row(t)[m] = sum;
      }
    }
  }
}

}  // namespace troupe::ops
