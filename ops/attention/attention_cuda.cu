#include <algorithm>

#include "ops/attention/attention_cache.cuh"
#include "ops/attention/attention_decode.hpp"
#include "ops/attention/attention_sum.cuh"
#include "ops/device/cuda_launch.cuh"

namespace troupe::ops {
namespace {

constexpr int decode_warps = 4;
constexpr int tokens_at_once = 4;  // of each group of lanes

__global__ void write_rows(cuda::places cache, const float* k, const float* v, device_tables tables,
                           unsigned kv_heads, unsigned head_dim) {
  cuda::wait_for_inputs();
  const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y, width = kv_heads * head_dim;
  const std::int32_t position = tables.positions[t];
  if (n >= width || position < 0) return;
  const std::uint32_t table = tables.table_starts[tables.row_sequences[t]];
  auto* to =
      const_cast<__nv_bfloat16*>(cuda::key_of(cache, tables, table, n / head_dim, head_dim, position)) +
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

// One part of one row for `Heads` query heads of one key/value head. `Lanes` lanes hold a key, eight numbers each; the groups of
// lanes and the warps take tokens in turn.
template <int Lanes, int Heads>
__global__ void __launch_bounds__(decode_warps* cuda::warp_size)
    attend_parts(float* y, const float* q, cuda::places cache, device_tables tables, device_attention shape,
                 float* partials, bool vectors) {
  cuda::wait_for_inputs();
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
    cuda::running<8> state[Heads];
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
        const __nv_bfloat16* key = cuda::key_of(cache, tables, table, kv_head, shape.head_dim, position);
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
      cuda::running<1> joined;
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

constexpr unsigned join_threads = 128;

// Joins the parts of rows that have several: a block for each row and head.
__global__ void join_parts(float* y, device_tables tables, device_attention shape, const float* partials) {
  cuda::wait_for_inputs();
  const unsigned width = shape.head_dim + 2;
  const std::size_t jobs = std::size_t{*tables.part_count} * shape.heads;
  for (std::size_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const decode_part part = tables.parts[job / shape.heads];
    if (part.split != 0 || part.splits == 1) continue;
    const unsigned head = job % shape.heads, lane = threadIdx.x % cuda::warp_size;
    const std::size_t stride = std::size_t{shape.heads} * width;
    const float* from = partials + (std::size_t{part.partial} * shape.heads + head) * width;
    float most = -INFINITY;
    for (unsigned i = lane; i < part.splits; i += cuda::warp_size)
      most = fmaxf(most, from[i * stride + shape.head_dim]);
    most = cuda::warp_max(most);
    for (unsigned d = threadIdx.x; d < shape.head_dim; d += join_threads) {
      float sum = 0, total = 0;
#pragma unroll 8
      for (unsigned i = 0; i < part.splits; ++i) {
        const float* one = from + i * stride;
        const float factor = expf(one[shape.head_dim] - most);
        total = fmaf(factor, one[shape.head_dim + 1], total);
        sum = fmaf(factor, one[d], sum);
      }
      y[(std::size_t{part.row} * shape.heads + head) * shape.head_dim + d] = sum / total;
    }
  }
}

}  // namespace

void write_kv_cuda(cudaStream_t stream, const device_kv& cache, device_inputs k, device_inputs v,
                   const device_tables& tables, const device_attention& shape) {
  if (k.rows == 0) return;
  const dim3 grid(static_cast<unsigned>((k.width + 255) / 256), static_cast<unsigned>(k.rows));
  cuda::launch_behind(write_rows, grid, 256, 0, stream, cuda::places(cache), k.data, v.data, tables,
                      shape.kv_heads, shape.head_dim);
}

void attend_alone_cuda(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                       const device_tables& tables, const device_attention& shape, std::size_t part_limit,
                       float* partials, const device_limits& limits) {
  if (part_limit == 0) return;
  const bool vectors = shape.head_dim % 8 == 0 && cache.block_stride % 8 == 0 && cache.layer_offset % 8 == 0;
  const unsigned group = shape.heads / shape.kv_heads;
  const std::size_t most = static_cast<std::size_t>(limits.processors) * 8;
  const auto join = [&] {
    if (part_limit < 2) return;
    cuda::launch_behind(join_parts, static_cast<unsigned>(std::min(part_limit * shape.heads, most)),
                        join_threads, 0, stream, y.data, tables, shape, partials);
  };
  if (decode_tiles_serve(shape, cache)) {
    attend_parts_tiles(stream, y, q, cache, tables, shape, part_limit, partials, limits);
    return join();
  }
  const auto go = [&]<int Lanes, int Heads>() {
    const std::size_t jobs = part_limit * shape.kv_heads * ((group + Heads - 1) / Heads);
    cuda::launch_behind(attend_parts<Lanes, Heads>, static_cast<unsigned>(std::min(jobs, most)),
                        decode_warps * cuda::warp_size, 0, stream, y.data, q.data, cuda::places(cache),
                        tables, shape, partials, vectors);
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
  join();
}

}  // namespace troupe::ops
