#include <algorithm>

#include "ops/attention/attention_cuda.hpp"
#include "ops/linear/matmul_tile.cuh"

namespace troupe::ops {
namespace {

constexpr int decode_warps = 4;
constexpr int tokens_at_once = 4;  // of each group of lanes

// Where a layer's numbers stand, and how positions become blocks: by a shift where a block holds a power of two of them.
struct places : device_kv {
  int shift = -1;

  explicit places(const device_kv& cache) : device_kv(cache) {
    if (block_tokens != 0 && (block_tokens & (block_tokens - 1)) == 0)
      for (shift = 0; (1u << shift) < block_tokens;) ++shift;
  }
};

__device__ const __nv_bfloat16* key_of(const places& cache, const device_tables& tables, std::uint32_t table,
                                       unsigned kv_head, unsigned head_dim, unsigned position) {
  const unsigned index = cache.shift >= 0 ? position >> cache.shift : position / cache.block_tokens;
  const std::size_t block = tables.tables[table + index];
  return cache.pool + block * cache.block_stride + cache.layer_offset +
         (std::size_t{kv_head} * cache.block_tokens + position - index * cache.block_tokens) * head_dim;
}

__global__ void write_rows(places cache, const float* k, const float* v, device_tables tables,
                           unsigned kv_heads, unsigned head_dim) {
  const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y, width = kv_heads * head_dim;
  const std::int32_t position = tables.positions[t];
  if (n >= width || position < 0) return;
  const std::uint32_t table = tables.table_starts[tables.row_sequences[t]];
  auto* to = const_cast<__nv_bfloat16*>(key_of(cache, tables, table, n / head_dim, head_dim, position)) +
             n % head_dim;
  to[0] = __float2bfloat16(k[std::size_t{t} * width + n]);
  to[std::size_t{width} * cache.block_tokens] = __float2bfloat16(v[std::size_t{t} * width + n]);
}

// Eight numbers from `at` on, of which those from head_dim on are zero.
__device__ uint4 eight(const __nv_bfloat16* row, unsigned at, unsigned head_dim, bool vectors) {
  if (vectors) return at < head_dim ? *reinterpret_cast<const uint4*>(row + at) : uint4{0, 0, 0, 0};
  __align__(16) __nv_bfloat16 out[8];
  for (unsigned i = 0; i < 8; ++i) out[i] = at + i < head_dim ? row[at + i] : __float2bfloat16(0.0f);
  return *reinterpret_cast<const uint4*>(out);
}
__device__ void expand(uint4 v, float (&out)[8]) {
  const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = cuda::low_bf16(words[i]);
    out[2 * i + 1] = cuda::high_bf16(words[i]);
  }
}

// The weighted sum of values so far, of one head: numbers `sum`, each to be divided by `total`; weights are relative to e^most.
template <int Numbers>
struct running {
  float most = -INFINITY, total = 0, sum[Numbers] = {};

  __device__ void join(float other_most, float other_total, const float (&other)[Numbers]) {
    const float both = fmaxf(most, other_most);
    if (both == -INFINITY) return;
    const float own = expf(most - both), theirs = expf(other_most - both);
    most = both;
    total = total * own + other_total * theirs;
#pragma unroll
    for (int i = 0; i < Numbers; ++i) sum[i] = sum[i] * own + other[i] * theirs;
  }
};

// One part of one row for `Heads` query heads of one key/value head. `Lanes` lanes hold a key, eight numbers each; the groups of
// lanes and the warps take tokens in turn.
template <int Lanes, int Heads>
__global__ void __launch_bounds__(decode_warps* cuda::warp_size)
    attend_parts(float* y, const float* q, places cache, device_tables tables, device_attention shape,
                 float* partials, bool vectors) {
  __shared__ float shared[decode_warps][Heads][Lanes * 8 + 2];
  constexpr int groups = cuda::warp_size / Lanes;
  const unsigned group_heads = shape.heads / shape.kv_heads, passes = (group_heads + Heads - 1) / Heads;
  const unsigned lane = threadIdx.x % cuda::warp_size, warp = threadIdx.x / cuda::warp_size;
  const unsigned own = lane % Lanes, group = lane / Lanes;
  const std::size_t jobs = std::size_t{*tables.part_count} * shape.kv_heads * passes;
  for (std::size_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const decode_part part = tables.parts[job / (shape.kv_heads * passes)];
    const unsigned kv_head = job / passes % shape.kv_heads;
    const unsigned first_head = kv_head * group_heads + job % passes * Heads;
    const unsigned end_head = min(first_head + Heads, (kv_head + 1) * group_heads);
    const std::uint32_t table = tables.table_starts[tables.row_sequences[part.row]];
    const std::size_t value_offset = std::size_t{shape.kv_heads} * cache.block_tokens * shape.head_dim;
    float query[Heads][8];
    running<8> state[Heads];
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
      const float* from =
          q + (std::size_t{part.row} * shape.heads + min(first_head + h, end_head - 1)) * shape.head_dim;
#pragma unroll
      for (int i = 0; i < 8; ++i)
        query[h][i] = own * 8 + i < shape.head_dim ? cuda::round_to_bf16(from[own * 8 + i]) : 0.0f;
    }
    for (unsigned base = part.first + (warp * groups + group) * tokens_at_once;
         base - group * tokens_at_once < part.last;  // the warp leaves the loop together
         base += decode_warps * groups * tokens_at_once) {
      uint4 keys[tokens_at_once], values[tokens_at_once];
#pragma unroll
      for (int u = 0; u < tokens_at_once; ++u) {
        const unsigned position = min(base + u, part.last - 1);
        const __nv_bfloat16* key = key_of(cache, tables, table, kv_head, shape.head_dim, position);
        keys[u] = eight(key, own * 8, shape.head_dim, vectors);
        values[u] = eight(key + value_offset, own * 8, shape.head_dim, vectors);
      }
      float scores[Heads][tokens_at_once];
#pragma unroll
      for (int u = 0; u < tokens_at_once; ++u) {
        float key[8];
        expand(keys[u], key);
#pragma unroll
        for (int h = 0; h < Heads; ++h) {
          float dot = 0;
#pragma unroll
          for (int i = 0; i < 8; ++i) dot = fmaf(query[h][i], key[i], dot);
#pragma unroll
          for (int step = Lanes / 2; step > 0; step /= 2) dot += __shfl_xor_sync(cuda::all_lanes, dot, step);
          float score = dot * shape.scale;
          if (shape.soft_cap != 0) score = shape.soft_cap * tanhf(score / shape.soft_cap);
          scores[h][u] = base + u < part.last ? score : -INFINITY;
        }
      }
#pragma unroll
      for (int h = 0; h < Heads; ++h) {
        float most = state[h].most;
#pragma unroll
        for (int u = 0; u < tokens_at_once; ++u) most = fmaxf(most, scores[h][u]);
        const float keep = most == -INFINITY ? 1.0f : expf(state[h].most - most);
        state[h].most = most;
        state[h].total *= keep;
#pragma unroll
        for (int i = 0; i < 8; ++i) state[h].sum[i] *= keep;
#pragma unroll
        for (int u = 0; u < tokens_at_once; ++u) {
          scores[h][u] = scores[h][u] == -INFINITY ? 0.0f : expf(scores[h][u] - most);
          state[h].total += scores[h][u];
        }
      }
#pragma unroll
      for (int u = 0; u < tokens_at_once; ++u) {
        float value[8];
        expand(values[u], value);
#pragma unroll
        for (int h = 0; h < Heads; ++h)
#pragma unroll
          for (int i = 0; i < 8; ++i) state[h].sum[i] = fmaf(scores[h][u], value[i], state[h].sum[i]);
      }
    }
    // Groups of the warp, then warps, in a fixed order.
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
#pragma unroll
      for (int step = Lanes; step < cuda::warp_size; step *= 2) {
        float other[8];
        const float other_most = __shfl_xor_sync(cuda::all_lanes, state[h].most, step);
        const float other_total = __shfl_xor_sync(cuda::all_lanes, state[h].total, step);
#pragma unroll
        for (int i = 0; i < 8; ++i) other[i] = __shfl_xor_sync(cuda::all_lanes, state[h].sum[i], step);
        state[h].join(other_most, other_total, other);
      }
      if (group == 0) {
        float* to = shared[warp][h];
        for (int i = 0; i < 8; ++i) to[own * 8 + i] = state[h].sum[i];
        if (own == 0) {
          to[Lanes * 8] = state[h].most;
          to[Lanes * 8 + 1] = state[h].total;
        }
      }
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < (end_head - first_head) * shape.head_dim; i += blockDim.x) {
      const unsigned h = i / shape.head_dim, d = i % shape.head_dim;
      running<1> joined;
      for (int w = 0; w < decode_warps; ++w) {
        const float* from = shared[w][h];
        const float sum[1] = {from[d]};
        joined.join(from[Lanes * 8], from[Lanes * 8 + 1], sum);
      }
      if (part.splits == 1) {
        y[(std::size_t{part.row} * shape.heads + first_head + h) * shape.head_dim + d] =
            joined.sum[0] / joined.total;
        continue;
      }
      float* to =
          partials + (std::size_t{part.partial} * shape.heads + first_head + h) * (shape.head_dim + 2);
      to[d] = joined.sum[0];
      if (d == 0) {
        to[shape.head_dim] = joined.most;
        to[shape.head_dim + 1] = joined.total;
      }
    }
    __syncthreads();
  }
}

// Joins the parts of rows that have several.
__global__ void join_parts(float* y, device_tables tables, device_attention shape, const float* partials) {
  const std::size_t jobs = std::size_t{*tables.part_count} * shape.heads;
  for (std::size_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const decode_part part = tables.parts[job / shape.heads];
    if (part.split != 0 || part.splits == 1) continue;
    const unsigned head = job % shape.heads;
    const std::size_t stride = std::size_t{shape.heads} * (shape.head_dim + 2);
    const float* from = partials + (std::size_t{part.partial} * shape.heads + head) * (shape.head_dim + 2);
    for (unsigned d = threadIdx.x; d < shape.head_dim; d += blockDim.x) {
      running<1> joined;
      for (unsigned i = 0; i < part.splits; ++i) {
        const float* one = from + i * stride;
        const float sum[1] = {one[d]};
        joined.join(one[shape.head_dim], one[shape.head_dim + 1], sum);
      }
      y[(std::size_t{part.row} * shape.heads + head) * shape.head_dim + d] = joined.sum[0] / joined.total;
    }
  }
}

// ---- tiles ----

constexpr int tile_warps = 4;
constexpr int tile_keys = 64;

template <int Width>
__device__ unsigned place(unsigned row, unsigned piece) {
  constexpr unsigned pieces = Width / 8;
  const unsigned turn = pieces >= 8 ? row & 7 : (row >> 1) & (pieces - 1);
  return (row * pieces + (piece ^ turn)) * 16;
}
__device__ unsigned pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}
template <int Width>
constexpr int kv_stages = Width <= 128 ? 2 : 1;
template <int Width>
constexpr int tile_memory = (tile_queries + 2 * kv_stages<Width> * tile_keys) * Width * 2;

// A tile of up to 64 queries (tokens times the heads that share a key/value head) against all the keys that they see.
template <int Width>
__global__ void __launch_bounds__(tile_warps* cuda::warp_size)
    attend_tiles(float* y, const float* q, places cache, device_tables tables, device_attention shape) {
  extern __shared__ __align__(128) char memory[];
  constexpr int stages = kv_stages<Width>;
  constexpr unsigned pieces = Width / 8, threads = tile_warps * cuda::warp_size;
  const query_tile tile = tables.tiles[gridDim.x - 1 - blockIdx.x];  // the longest first
  const unsigned kv_head = blockIdx.y, group = shape.heads / shape.kv_heads;
  const unsigned lane = threadIdx.x % cuda::warp_size, warp = threadIdx.x / cuda::warp_size;
  const std::uint32_t table = tables.table_starts[tables.row_sequences[tile.row]];
  const unsigned first_position = tables.positions[tile.row], last_position = first_position + tile.count - 1;
  const unsigned begin =
      shape.window != 0 && first_position + 1 > shape.window ? first_position + 1 - shape.window : 0;
  const unsigned first_key = begin / tile_keys * tile_keys,
                 key_tiles = (last_position - first_key) / tile_keys + 1;
  const unsigned shared = cuda::shared_address(memory);
  const auto keys_at = [&](unsigned stage) {
    return shared + (tile_queries + 2 * stage * tile_keys) * Width * 2;
  };
  const auto values_at = [&](unsigned stage) { return keys_at(stage) + tile_keys * Width * 2; };

  for (unsigned i = threadIdx.x; i < tile_queries * pieces; i += threads) {
    const unsigned r = i / pieces, piece = i % pieces;
    unsigned words[4] = {};
    if (r < tile.count * group && piece * 8 < shape.head_dim) {
      const float* from =
          q +
          (std::size_t{tile.row + r / group} * shape.heads + kv_head * group + r % group) * shape.head_dim +
          piece * 8;
      for (int j = 0; j < 4; ++j) words[j] = pack(from[2 * j], from[2 * j + 1]);
    }
    *reinterpret_cast<uint4*>(memory + place<Width>(r, piece)) = {words[0], words[1], words[2], words[3]};
  }
  const std::size_t value_offset = std::size_t{shape.kv_heads} * cache.block_tokens * shape.head_dim;
  const auto fetch = [&](unsigned key_tile, unsigned stage) {
    for (unsigned i = threadIdx.x; i < tile_keys * pieces; i += threads) {
      const unsigned r = i / pieces, piece = i % pieces, position = first_key + key_tile * tile_keys + r;
      const bool live = position <= last_position && piece * 8 < shape.head_dim;
      const __nv_bfloat16* key =
          key_of(cache, tables, table, kv_head, shape.head_dim, min(position, last_position)) +
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
      const unsigned of_p[4] = {
          pack(scores[2 * k][0], scores[2 * k][1]), pack(scores[2 * k][2], scores[2 * k][3]),
          pack(scores[2 * k + 1][0], scores[2 * k + 1][1]), pack(scores[2 * k + 1][2], scores[2 * k + 1][3])};
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

void write_kv_cuda(cudaStream_t stream, const device_kv& cache, device_inputs k, device_inputs v,
                   const device_tables& tables, const device_attention& shape) {
  if (k.rows == 0) return;
  const dim3 grid(static_cast<unsigned>((k.width + 255) / 256), static_cast<unsigned>(k.rows));
  write_rows<<<grid, 256, 0, stream>>>(places(cache), k.data, v.data, tables, shape.kv_heads, shape.head_dim);
}

void attend_alone_cuda(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                       const device_tables& tables, const device_attention& shape, std::size_t part_limit,
                       float* partials, const device_limits& limits) {
  if (part_limit == 0) return;
  const bool vectors = shape.head_dim % 8 == 0 && cache.block_stride % 8 == 0 && cache.layer_offset % 8 == 0;
  const unsigned group = shape.heads / shape.kv_heads;
  const std::size_t most = static_cast<std::size_t>(limits.processors) * 8;
  const auto go = [&]<int Lanes, int Heads>() {
    const std::size_t jobs = part_limit * shape.kv_heads * ((group + Heads - 1) / Heads);
    attend_parts<Lanes, Heads>
        <<<static_cast<unsigned>(std::min(jobs, most)), decode_warps * cuda::warp_size, 0, stream>>>(
            y.data, q.data, places(cache), tables, shape, partials, vectors);
  };
  const auto pick = [&]<int Lanes>() {
    if (group == 1) return go.template operator()<Lanes, 1>();
    if (group <= 4) return go.template operator()<Lanes, 4>();
    go.template operator()<Lanes, 8>();
  };
  if (shape.head_dim <= 32)
    pick.template operator()<4>();
  else if (shape.head_dim <= 64)
    pick.template operator()<8>();
  else if (shape.head_dim <= 128)
    pick.template operator()<16>();
  else
    pick.template operator()<32>();
  join_parts<<<static_cast<unsigned>(std::min(part_limit * shape.heads, most)), 128, 0, stream>>>(
      y.data, tables, shape, partials);
}

void attend_tiles_cuda(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                       const device_tables& tables, const device_attention& shape, std::size_t tile_count) {
  if (tile_count == 0) return;
  const dim3 grid(static_cast<unsigned>(tile_count), shape.kv_heads);
  const auto go = [&]<int Width>() {
    cudaFuncSetAttribute(attend_tiles<Width>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         tile_memory<Width>);
    attend_tiles<Width><<<grid, tile_warps * cuda::warp_size, tile_memory<Width>, stream>>>(
        y.data, q.data, places(cache), tables, shape);
  };
  if (shape.head_dim <= 32) return go.template operator()<32>();
  if (shape.head_dim <= 64) return go.template operator()<64>();
  if (shape.head_dim <= 128) return go.template operator()<128>();
  go.template operator()<256>();
}

}  // namespace troupe::ops
