// What sampling asks of a whole row of logits [V]: the passes that read every element.
#pragma once

#include <cstdint>
#include <span>

namespace troupe::ops {

struct row_peak {
  std::int32_t token = 0;  // of the greatest logit, lowest id among equals
  float logit = 0;
  bool finite = true;  // no NaN and no +inf in the row, and not all of it -inf
};
row_peak find_peak_ref(std::span<const float> row);
row_peak find_peak_cpu(std::span<const float> row);

// weights[i] = exp((row[i] - shift) * scale), for scale > 0 and row[i] <= shift. Returns their sum. weights
// may be empty.
double exp_row_ref(std::span<const float> row, float shift, float scale, std::span<float> weights);
double exp_row_cpu(std::span<const float> row, float shift, float scale, std::span<float> weights);

}  // namespace troupe::ops
