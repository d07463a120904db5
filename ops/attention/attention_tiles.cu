#include <algorithm>

#include "ops/attention/attention_cache.cuh"
#include "ops/attention/attention_wide.hpp"
#include "ops/device/cuda_launch.cuh"
#include "ops/linear/matmul_tile.cuh"

namespace troupe::ops {
namespace {

constexpr int tile_warps = 4;
constexpr int tile_keys = 64;
constexpr unsigned block_queries = 64;

template <int Width>
__device__ unsigned place(unsigned row, unsigned piece) {
  constexpr unsigned pieces = Width / 8;
  const unsigned turn = pieces >= 8 ? row & 7 : (row >> 1) & (pieces - 1);
  return (row * pieces + (piece ^ turn)) * 16;
}
template <int Width>
constexpr int kv_stages = Width <= 128 ? 2 : 1;
template <int Width>
constexpr int tile_memory = (block_queries + 2 * kv_stages<Width> * tile_keys) * Width * 2;

// Up to 64 queries of a tile (tokens times the heads that share a key/value head; blockIdx.z: which of its tokens) against all the keys
// that they see.
template <int Width>
__global__ void __launch_bounds__(tile_warps* cuda::warp_size)
    attend_tiles(float* y, const float* q, cuda::places cache, device_tables tables, device_attention shape) {
  cuda::wait_for_inputs();
  extern __shared__ __align__(128) char memory[];
  constexpr int stages = kv_stages<Width>;
  constexpr unsigned pieces = Width / 8, threads = tile_warps * cuda::warp_size;
  query_tile tile = tables.tiles[gridDim.x - 1 - blockIdx.x];  // the longest first
  const unsigned kv_head = blockIdx.y, group = shape.heads / shape.kv_heads;
  const unsigned skipped = blockIdx.z * (block_queries / group);
  if (skipped >= tile.count) return;
  tile = {tile.row + skipped, min(tile.count - skipped, block_queries / group)};
  const unsigned lane = threadIdx.x % cuda::warp_size, warp = threadIdx.x / cuda::warp_size;
  const std::uint32_t table = tables.table_starts[tables.row_sequences[tile.row]];
  const unsigned first_position = tables.positions[tile.row], last_position = first_position + tile.count - 1;
  const unsigned begin =
      shape.window != 0 && first_position + 1 > shape.window ? first_position + 1 - shape.window : 0;
  const unsigned first_key = begin / tile_keys * tile_keys,
                 key_tiles = (last_position - first_key) / tile_keys + 1;
  const unsigned shared = cuda::shared_address(memory);
  const auto keys_at = [&](unsigned stage) {
    return shared + (block_queries + 2 * stage * tile_keys) * Width * 2;
  };
  const auto values_at = [&](unsigned stage) { return keys_at(stage) + tile_keys * Width * 2; };

  for (unsigned i = threadIdx.x; i < block_queries * pieces; i += threads) {
    const unsigned r = i / pieces, piece = i % pieces;
    unsigned words[4] = {};
    if (r < tile.count * group && piece * 8 < shape.head_dim) {
      const float* from =
          q +
          (std::size_t{tile.row + r / group} * shape.heads + kv_head * group + r % group) * shape.head_dim +
          piece * 8;
      for (int j = 0; j < 4; ++j) words[j] = cuda::pack_bf16(from[2 * j], from[2 * j + 1]);
    }
    *reinterpret_cast<uint4*>(memory + place<Width>(r, piece)) = {words[0], words[1], words[2], words[3]};
  }
  const std::size_t value_offset = std::size_t{shape.kv_heads} * cache.block_tokens * shape.head_dim;
  const auto fetch = [&](unsigned key_tile, unsigned stage) {
    for (unsigned i = threadIdx.x; i < tile_keys * pieces; i += threads) {
      const unsigned r = i / pieces, piece = i % pieces, position = first_key + key_tile * tile_keys + r;
      const bool live = position <= last_position && piece * 8 < shape.head_dim;
      const __nv_bfloat16* key =
          cuda::key_of(cache, tables, table, kv_head, shape.head_dim, min(position, last_position)) +
          (live ? piece * 8 : 0);
      cuda::copy_ahead(keys_at(stage) + place<Width>(r, piece), key, live ? 16 : 0);
      cuda::copy_ahead(values_at(stage) + place<Width>(r, piece), key + value_offset, live ? 16 : 0);
    }
  };

  float sums[Width / 8][4] = {};
  float most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
  unsigned own_position[2];
  for (int half = 0; half < 2; ++half) {
    const unsigned r = warp * 16 + lane / 4 + half * 8;
    own_position[half] = first_position + min(r / group, tile.count - 1);
  }
  if (stages == 2) fetch(0, 0);
  cuda::close_group();
  for (unsigned key_tile = 0; key_tile < key_tiles; ++key_tile) {
    const unsigned stage = stages == 2 ? key_tile % 2 : 0;
    __syncthreads();  // what the next fetch overwrites has been read
    if (stages == 2) {
      if (key_tile + 1 < key_tiles) fetch(key_tile + 1, 1 - stage);
      cuda::close_group();
      cuda::wait_groups<1>();
    } else {
      fetch(key_tile, 0);
      cuda::close_group();
      cuda::wait_groups<0>();
    }
    __syncthreads();

    float scores[8][4] = {};
#pragma unroll
    for (unsigned k = 0; k < Width / 16; ++k) {
      unsigned of_q[4];
      cuda::load_matrices(of_q, shared + place<Width>(warp * 16 + lane % 16, k * 2 + lane / 16));
#pragma unroll
      for (unsigned c = 0; c < 8; c += 2) {
        unsigned of_k[4];
        cuda::load_matrices(
            of_k, keys_at(stage) + place<Width>(c * 8 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
        cuda::multiply(scores[c], of_q, of_k[0], of_k[1]);
        cuda::multiply(scores[c + 1], of_q, of_k[2], of_k[3]);
      }
    }
    const unsigned key0 = first_key + key_tile * tile_keys + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float peak = most[half];
#pragma unroll
      for (int c = 0; c < 8; ++c)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[c][half * 2 + j];
          score *= shape.scale;
          if (shape.soft_cap != 0) score = shape.soft_cap * tanhf(score / shape.soft_cap);
          const unsigned key = key0 + c * 8 + j;
          const bool seen =
              key <= own_position[half] && (shape.window == 0 || key + shape.window > own_position[half]);
          if (!seen) score = -INFINITY;
          peak = fmaxf(peak, score);
        }
      peak = fmaxf(peak, __shfl_xor_sync(cuda::all_lanes, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(cuda::all_lanes, peak, 2));
      const float origin = peak == -INFINITY ? 0.0f : peak, keep = expf(most[half] - origin);
      most[half] = peak;
      float sum = 0;
#pragma unroll
      for (int c = 0; c < 8; ++c)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[c][half * 2 + j];
          score = expf(score - origin);
          sum += score;
        }
      sum += __shfl_xor_sync(cuda::all_lanes, sum, 1);
      sum += __shfl_xor_sync(cuda::all_lanes, sum, 2);
      total[half] = total[half] * keep + sum;
#pragma unroll
      for (int d = 0; d < Width / 8; ++d) {
        sums[d][half * 2] *= keep;
        sums[d][half * 2 + 1] *= keep;
      }
    }
#pragma unroll
    for (unsigned k = 0; k < tile_keys / 16; ++k) {
      const unsigned of_p[4] = {cuda::pack_bf16(scores[2 * k][0], scores[2 * k][1]),
                                cuda::pack_bf16(scores[2 * k][2], scores[2 * k][3]),
                                cuda::pack_bf16(scores[2 * k + 1][0], scores[2 * k + 1][1]),
                                cuda::pack_bf16(scores[2 * k + 1][2], scores[2 * k + 1][3])};
#pragma unroll
      for (unsigned d = 0; d < Width / 8; d += 2) {
        unsigned of_v[4];
        cuda::load_transposed(of_v, values_at(stage) + place<Width>(k * 16 + lane % 16, d + lane / 16));
        cuda::multiply(sums[d], of_p, of_v[0], of_v[1]);
        cuda::multiply(sums[d + 1], of_p, of_v[2], of_v[3]);
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const unsigned r = warp * 16 + lane / 4 + half * 8;
    if (r >= tile.count * group) continue;
    float* to =
        y + (std::size_t{tile.row + r / group} * shape.heads + kv_head * group + r % group) * shape.head_dim;
#pragma unroll
    for (int d = 0; d < Width / 8; ++d)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const unsigned at = d * 8 + lane % 4 * 2 + j;
        if (at < shape.head_dim) to[at] = sums[d][half * 2 + j] / total[half];
      }
  }
}

}  // namespace

void attend_tiles_cuda(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                       const device_tables& tables, const device_attention& shape, std::size_t tile_count) {
  if (tile_count == 0) return;
  if (wide_attention_serves(shape, cache))
    return attend_wide_cuda(stream, y, q, cache, tables, shape, tile_count);
  const unsigned tokens = block_queries / (shape.heads / shape.kv_heads);
  const dim3 grid(static_cast<unsigned>(tile_count), shape.kv_heads,
                  (tile_tokens(shape) + tokens - 1) / tokens);
  const auto go = [&]<int Width>() {
    cudaFuncSetAttribute(attend_tiles<Width>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         tile_memory<Width>);
    cuda::launch_behind(attend_tiles<Width>, grid, tile_warps * cuda::warp_size, tile_memory<Width>, stream,
                        y.data, q.data, cuda::places(cache), tables, shape);
  };
  if (shape.head_dim <= 32) return go.template operator()<32>();
  if (shape.head_dim <= 64) return go.template operator()<64>();
  if (shape.head_dim <= 128) return go.template operator()<128>();
  go.template operator()<256>();
}

}  // namespace troupe::ops
