// Causal attention with grouped query heads over a paged cache.
//
//   q [T, H·Dh]   k, v [T, K·Dh]   y [T, H·Dh]        G = H / K query heads share a key/value head
//   1. k and v of all T rows are written to the cache at their positions.
//   2. row t of sequence s at position p sees the positions max(0, p + 1 - window) .. p of s:
//      y = Σ_j softmax_j(cap(scale · q·k_j)) v_j            window 0 = all
//      cap(s) = soft_cap · tanh(s / soft_cap)               soft_cap 0 = s
//
// In f32. What is added to what depends on positions alone: not on how rows are cut into steps, not on other
// sequences, and not on which blocks hold them. Block tables reach as far as the last position of the step.
#pragma once

#include <cstdint>
#include <span>

#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

// Where one attention layer keeps its keys and values in the pool of blocks. Per block and layer:
//   keys [K, Dh, B], then values [K, B, Dh]              B = positions per block
// Keys lie transposed, so that B products of one query come out side by side.
struct kv_cache {
  float* pool = nullptr;  // `block_stride` floats per block; 64 readable bytes follow the last block
  std::size_t block_stride = 0;
  std::size_t layer_offset = 0;  // floats from a block's start
  std::size_t block_tokens = 0;  // B
  std::size_t kv_heads = 0;      // K
  std::size_t head_dim = 0;      // Dh

  float* keys(std::size_t block, std::size_t head) const {
    return pool + block * block_stride + layer_offset + head * head_dim * block_tokens;
  }
  float* values(std::size_t block, std::size_t head) const { return keys(block, kv_heads + head); }
};

struct attention_shape {
  std::size_t heads = 0;     // H
  std::size_t kv_heads = 0;  // K
  std::size_t head_dim = 0;  // Dh
  float scale = 1;
  std::size_t window = 0;
  float soft_cap = 0;
};

// The part of a step that attention looks at; see step_batch.
struct attention_batch {
  std::span<const std::int32_t> positions;                       // [T]
  std::span<const std::uint32_t> sequence_rows;                  // [S+1]
  std::span<const std::span<const std::uint32_t>> block_tables;  // [S]
};

// Step 1; part of both versions below.
void write_kv(execution& context, const kv_cache& cache, const_activations k, const_activations v,
              const attention_batch& batch);

void attention_ref(execution& context, activations y, const_activations q, const_activations k,
                   const_activations v, const kv_cache& cache, const attention_batch& batch,
                   const attention_shape& shape);
void attention_cpu(execution& context, activations y, const_activations q, const_activations k,
                   const_activations v, const kv_cache& cache, const attention_batch& batch,
                   const attention_shape& shape);

}  // namespace troupe::ops
