#include <algorithm>
#include <cstring>

#include "ops/attention/attention.hpp"

namespace troupe::ops {
namespace {

constexpr std::size_t part_elements = 32 << 10;  // worth a hand-over between threads

void write_row(const kv_cache& cache, const float* k, const float* v, std::size_t block, std::size_t slot) {
  for (std::size_t head = 0; head < cache.kv_heads; ++head) {
    float* keys = cache.keys(block, head) + slot;
    for (std::size_t d = 0; d < cache.head_dim; ++d)
      keys[d * cache.block_tokens] = k[head * cache.head_dim + d];
    std::memcpy(cache.values(block, head) + slot * cache.head_dim, v + head * cache.head_dim,
                cache.head_dim * sizeof(float));
  }
}

}  // namespace

void write_kv(execution& context, const kv_cache& cache, const_activations k, const_activations v,
              const attention_batch& batch) {
  check_shape(k, batch.positions.size(), cache.kv_heads * cache.head_dim);
  check_shape(v, batch.positions.size(), cache.kv_heads * cache.head_dim);
  const auto& starts = batch.sequence_rows;
  context.threads().parallel_for(
      k.rows, part_elements / (k.width + 1) + 1, [&](std::size_t first, std::size_t last, unsigned) {
        std::size_t sequence = std::upper_bound(starts.begin(), starts.end(), first) - starts.begin() - 1;
        for (std::size_t t = first; t < last; ++t) {
          while (t >= starts[sequence + 1]) ++sequence;
          const std::size_t position = static_cast<std::size_t>(batch.positions[t]);
          write_row(cache, k.row(t), v.row(t), batch.block_tables[sequence][position / cache.block_tokens],
                    position % cache.block_tokens);
        }
      });
}

}  // namespace troupe::ops
