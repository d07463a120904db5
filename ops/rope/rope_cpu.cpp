// A few operations per number: plain loops that the compiler vectorises, over all cores.
#include <cstring>

#include "ops/rope/rope.hpp"

namespace troupe::ops {
namespace {

constexpr std::size_t part_elements = 16 << 10;  // worth a hand-over between threads

void rotate_half(float* to, const float* from, const float* cosines, const float* sines, std::size_t pairs) {
  for (std::size_t j = 0; j < pairs; ++j) {
    const float a = from[j];
    const float b = from[j + pairs];
    to[j] = a * cosines[j] - b * sines[j];
    to[j + pairs] = b * cosines[j] + a * sines[j];
  }
}

void rotate_interleaved(float* to, const float* from, const float* cosines, const float* sines,
                        std::size_t pairs) {
  for (std::size_t j = 0; j < pairs; ++j) {
    const float a = from[2 * j];
    const float b = from[2 * j + 1];
    to[2 * j] = a * cosines[j] - b * sines[j];
    to[2 * j + 1] = b * cosines[j] + a * sines[j];
  }
}

}  // namespace

void rope_cpu(execution& context, activations y, const_activations x, const rope_table& table,
              const rope_shape& shape) {
  check_shape(y, x.rows, x.width);
  const std::size_t pairs = shape.rotary_dim / 2;
  check_shape(table.cosines, x.rows, pairs);
  const auto rotate = shape.interleaved ? rotate_interleaved : rotate_half;
  context.threads().parallel_for(x.rows, part_elements / (x.width + 1) + 1,
                                 [&](std::size_t first, std::size_t last, unsigned) {
                                   for (std::size_t t = first; t < last; ++t) {
                                     for (std::size_t head = 0; head < x.width; head += shape.head_dim) {
                                       const float* from = x.row(t) + head;
                                       float* to = y.row(t) + head;
                                       rotate(to, from, table.cosines.row(t), table.sines.row(t), pairs);
                                       if (to != from && shape.rotary_dim < shape.head_dim) {
                                         std::memcpy(to + shape.rotary_dim, from + shape.rotary_dim,
                                                     (shape.head_dim - shape.rotary_dim) * sizeof(float));
                                       }
                                     }
                                   }
                                 });
}

}  // namespace troupe::ops
