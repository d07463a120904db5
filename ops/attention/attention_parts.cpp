#include <algorithm>

#include "ops/attention/attention_cuda.hpp"

namespace troupe::ops {

std::uint32_t split_tokens(std::uint32_t length) {
  if (length <= 1024) return 128;
  if (length <= 4096) return 256;
  return length <= 65536 ? 512 : 1024;
}

void add_decode_parts(std::vector<decode_part>& parts, std::uint32_t row, std::uint32_t first,
                      std::uint32_t last) {
  const std::uint32_t size = split_tokens(last - first), splits = (last - first + size - 1) / size;
  const auto partial = static_cast<std::uint32_t>(parts.size());
  for (std::uint32_t i = 0; i < splits; ++i)
    parts.push_back({row, first + i * size, std::min(first + (i + 1) * size, last), partial + i, i, splits});
}

std::uint32_t most_splits(std::uint32_t context) {
  std::uint32_t most = 1;
  for (const std::uint32_t border : {1024u, 4096u, 65536u, context})
    if (border <= context && border > 0)
      most = std::max(most, (border + split_tokens(border) - 1) / split_tokens(border));
  return most;
}

bool tiles_serve(const device_attention& shape, const device_kv& cache) {
  return shape.head_dim % 8 == 0 && shape.heads / shape.kv_heads <= widest_group &&
         cache.block_stride % 8 == 0 && cache.layer_offset % 8 == 0;
}

}  // namespace troupe::ops
