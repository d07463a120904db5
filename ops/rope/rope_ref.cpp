#include "ops/rope/rope.hpp"

namespace troupe::ops {

void rope_ref(execution&, activations y, const_activations x, const rope_table& table,
              const rope_shape& shape) {
  check_shape(y, x.rows, x.width);
  const std::size_t pairs = shape.rotary_dim / 2;
  check_shape(table.cosines, x.rows, pairs);
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (std::size_t head = 0; head < x.width; head += shape.head_dim) {
      const float* from = x.row(t) + head;
      float* to = y.row(t) + head;
      for (std::size_t j = 0; j < pairs; ++j) {
        const std::size_t first = shape.interleaved ? 2 * j : j;
        const std::size_t second = shape.interleaved ? 2 * j + 1 : j + pairs;
        const float a = from[first];
        const float b = from[second];
        to[first] = a * table.cosines.row(t)[j] - b * table.sines.row(t)[j];
        to[second] = b * table.cosines.row(t)[j] + a * table.sines.row(t)[j];
      }
      for (std::size_t j = shape.rotary_dim; j < shape.head_dim; ++j) to[j] = from[j];
    }
  }
}

}  // namespace troupe::ops
