#include <cmath>
#include <limits>

#include "ops/sampling/row_scan.hpp"

namespace troupe::ops {

row_peak find_peak_ref(std::span<const float> row) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  row_peak peak{0, -infinity, true};
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (std::isnan(row[i]) || row[i] == infinity) return {-1, row[i], false};
    if (row[i] > peak.logit) peak = {static_cast<std::int32_t>(i), row[i], true};
  }
  if (peak.logit == -infinity) return {-1, -infinity, false};
  return peak;
}

double exp_row_ref(std::span<const float> row, float shift, float scale, std::span<float> weights) {
  double sum = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const float weight = std::exp((row[i] - shift) * scale);
    if (!weights.empty()) weights[i] = weight;
    sum += weight;
  }
  return sum;
}

}  // namespace troupe::ops
