#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/attention/attention.hpp"

namespace troupe::ops {
namespace {

// One query head of one row.
void attend(float* y, const float* q, const kv_cache& cache, std::span<const std::uint32_t> blocks,
            std::size_t kv_head, std::size_t begin, std::size_t end, const attention_shape& shape) {
  const std::size_t width = cache.head_dim;
  std::vector<float> weights(end - begin);
  for (std::size_t j = begin; j < end; ++j) {
    const float* keys = cache.keys(blocks[j / cache.block_tokens], kv_head) + j % cache.block_tokens;
    float dot = 0;
    for (std::size_t d = 0; d < width; ++d) dot += q[d] * keys[d * cache.block_tokens];
    const float score = dot * shape.scale;
    weights[j - begin] = shape.soft_cap == 0 ? score : shape.soft_cap * std::tanh(score / shape.soft_cap);
  }
  const float most = *std::max_element(weights.begin(), weights.end());
  float sum = 0;
  for (float& weight : weights) sum += weight = std::exp(weight - most);
  std::fill(y, y + width, 0.0f);
  for (std::size_t j = begin; j < end; ++j) {
    const float* value =
        cache.values(blocks[j / cache.block_tokens], kv_head) + j % cache.block_tokens * width;
    for (std::size_t d = 0; d < width; ++d) y[d] += weights[j - begin] / sum * value[d];
  }
}

}  // namespace

void attention_ref(execution& context, activations y, const_activations q, const_activations k,
                   const_activations v, const kv_cache& cache, const attention_batch& batch,
                   const attention_shape& shape) {
  check_shape(y, batch.positions.size(), shape.heads * shape.head_dim);
  check_shape(q, batch.positions.size(), shape.heads * shape.head_dim);
  write_kv(context, cache, k, v, batch);
  const std::size_t group = shape.heads / shape.kv_heads;
  for (std::size_t s = 0; s + 1 < batch.sequence_rows.size(); ++s) {
    for (std::size_t t = batch.sequence_rows[s]; t < batch.sequence_rows[s + 1]; ++t) {
      const std::size_t end = static_cast<std::size_t>(batch.positions[t]) + 1;
      const std::size_t begin = shape.window != 0 && end > shape.window ? end - shape.window : 0;
      for (std::size_t head = 0; head < shape.heads; ++head) {
        const std::size_t at = head * shape.head_dim;
        attend(y.row(t) + at, q.row(t) + at, cache, batch.block_tables[s], head / group, begin, end, shape);
      }
    }
  }
}

}  // namespace troupe::ops
