// Where keys and values of a paged cache stand.
#pragma once

#include "ops/attention/attention_cuda.hpp"

namespace troupe::ops::cuda {

// Where a layer's numbers stand, and how positions become blocks: by a shift where a block holds a power of two of them.
struct places : device_kv {
  int shift = -1;

  explicit places(const device_kv& cache) : device_kv(cache) {
    if (block_tokens != 0 && (block_tokens & (block_tokens - 1)) == 0)
      for (shift = 0; (1u << shift) < block_tokens;) ++shift;
  }
};

__device__ inline const __nv_bfloat16* key_of(const places& cache, const device_tables& tables,
                                              std::uint32_t table, unsigned kv_head, unsigned head_dim,
                                              unsigned position) {
  const unsigned index = cache.shift >= 0 ? position >> cache.shift : position / cache.block_tokens;
  const std::size_t block = tables.tables[table + index];
  return cache.pool + block * cache.block_stride + cache.layer_offset +
         (std::size_t{kv_head} * cache.block_tokens + position - index * cache.block_tokens) * head_dim;
}

__device__ inline unsigned pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

}  // namespace troupe::ops::cuda
