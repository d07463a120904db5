#include <cmath>

#include "ops/rope/rope.hpp"

namespace troupe::ops {

void rope_frequencies(std::span<float> frequencies, std::size_t rotary_dim, double theta) {
  for (std::size_t j = 0; j < frequencies.size(); ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(rotary_dim);
    frequencies[j] = 1 / std::pow(static_cast<float>(theta), exponent);
  }
}

// The product is rounded to f32 first, as the reference does; its sine is then taken exactly.
void rope_angles(execution& context, activations cosines, activations sines,
                 std::span<const std::int32_t> positions, std::span<const float> frequencies,
                 float amplitude) {
  check_shape(cosines, positions.size(), frequencies.size());
  check_shape(sines, positions.size(), frequencies.size());
  context.threads().parallel_for(positions.size(), 32, [&](std::size_t first, std::size_t last, unsigned) {
    for (std::size_t t = first; t < last; ++t) {
      for (std::size_t j = 0; j < frequencies.size(); ++j) {
        const float angle = static_cast<float>(positions[t]) * frequencies[j];
        cosines.row(t)[j] = static_cast<float>(std::cos(static_cast<double>(angle))) * amplitude;
        sines.row(t)[j] = static_cast<float>(std::sin(static_cast<double>(angle))) * amplitude;
      }
    }
  });
}

}  // namespace troupe::ops
