// Attention over a paged cache on a CUDA device; formulas in attention.hpp. Keys, values and queries are rounded to bf16; scores,
// softmax and sums are f32.
//
// A row that is alone in its sequence (decode) is cut into ranges of positions that are computed side by side and then joined; how it is
// cut depends on its position alone. Rows of a longer chunk (prefill) go through tensor-core tiles of 64 or 128 keys that begin at
// multiples of that (online softmax as in arXiv 2205.14135), their weights rounded to bf16 before they meet the values. So a row's
// result depends neither on other sequences nor on blocks, and on the cut of a prompt only by whether it stood alone.
#pragma once

#include <span>
#include <vector>

#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

constexpr std::size_t widest_head = 256;  // Dh
constexpr unsigned tile_queries = 128;    // rows · G of a tile at most
constexpr unsigned widest_group = 64;     // G that tiles serve

// Where a layer keeps its numbers in a block: keys [K, B, Dh], then values [K, B, Dh], bf16.
struct device_kv {
  __nv_bfloat16* pool = nullptr;
  std::size_t block_stride = 0;  // numbers
  std::size_t layer_offset = 0;  // numbers
  unsigned block_tokens = 0;     // B
};

struct device_attention {
  unsigned heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 1;
  unsigned window = 0;
  float soft_cap = 0;
};

// Positions [first, last) of one row; `partial`: where its part of the result goes; `splits`: of the row in all.
struct decode_part {
  std::uint32_t row, first, last, partial, split, splits;
};
// Rows [row, row + count) of one sequence.
struct query_tile {
  std::uint32_t row, count;
};

// The part of a step that attention looks at; all on the device.
struct device_tables {
  const std::int32_t* positions = nullptr;       // [T]; negative: the row fills up a captured batch
  const std::uint32_t* row_sequences = nullptr;  // [T]
  const std::uint32_t* table_starts = nullptr;   // [S]
  const std::uint32_t* tables = nullptr;         // blocks of all sequences
  const decode_part* parts = nullptr;
  const std::uint32_t* part_count = nullptr;  // [1]
  const query_tile* tiles = nullptr;
};

// Positions of one part for a row that sees `length` of them.
std::uint32_t split_tokens(std::uint32_t length);
// Parts of a row that sees the positions [first, last).
void add_decode_parts(std::vector<decode_part>& parts, std::uint32_t row, std::uint32_t first,
                      std::uint32_t last);
// Most parts that a row of `context` positions may have.
std::uint32_t most_splits(std::uint32_t context);

// Whether prefill tiles serve this shape; else every row is computed as if it stood alone.
bool tiles_serve(const device_attention& shape, const device_kv& cache);

void write_kv_cuda(cudaStream_t stream, const device_kv& cache, device_inputs k, device_inputs v,
                   const device_tables& tables, const device_attention& shape);

// `part_limit`: at least as many as *part_count will be; `partials`: part_limit · H · (Dh + 2) floats.
void attend_alone_cuda(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                       const device_tables& tables, const device_attention& shape, std::size_t part_limit,
                       float* partials, const device_limits& limits);

// `tile_count`: of tables.tiles.
void attend_tiles_cuda(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                       const device_tables& tables, const device_attention& shape, std::size_t tile_count);
// Tokens in one tile.
inline std::uint32_t tile_tokens(const device_attention& shape) {
  return tile_queries / (shape.heads / shape.kv_heads);
}

}  // namespace troupe::ops
