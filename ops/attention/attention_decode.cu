#include <algorithm>

#include "ops/attention/attention_cache.cuh"
#include "ops/attention/attention_decode.hpp"
#include "ops/attention/attention_sum.cuh"
#include "ops/device/cuda_launch.cuh"
#include "ops/linear/matmul_tile.cuh"

namespace troupe::ops {
namespace {

constexpr int decode_warps = 4;
constexpr unsigned heads_at_once = 8;
constexpr unsigned tokens_at_once = 16;  // of a warp

struct part_job {
  decode_part part;
  std::uint32_t table;
  unsigned kv_head, first_head, end_head;
};

__device__ part_job job_at(std::size_t job, const device_tables& tables, const device_attention& shape,
                           unsigned passes) {
  const unsigned group = shape.heads / shape.kv_heads;
  part_job out;
  out.part = tables.parts[job / (shape.kv_heads * passes)];
  out.table = tables.table_starts[tables.row_sequences[out.part.row]];
  out.kv_head = job / passes % shape.kv_heads;
  out.first_head = out.kv_head * group + job % passes * heads_at_once;
  out.end_head = min(out.first_head + heads_at_once, (out.kv_head + 1) * group);
  return out;
}

// In all products the queries' heads are the rows of a (8 of 16 in use: c's other half stays zero). Keys and values come from memory
// straight into the registers of b: k and the columns are numbered so that 16 bytes of a token are one lane's.
template <int Width>
struct warp_state {
  static constexpr int pieces = Width / 32;  // of 8 numbers, of a key in each lane
  static constexpr int halves = Width / 64;  // of a value
  unsigned query[2 * pieces][2];
  float sums[halves][8][2] = {};  // of head lane / 4: number 64 half + 8 (2 (lane % 4) + e) + j
  float most = -INFINITY, total = 0;
};

__device__ inline void multiply_upper(float (&c)[2], unsigned a0, unsigned a2, unsigned b0, unsigned b1) {
  float none[2] = {0, 0};
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(none[0]), "+f"(none[1])
      : "r"(a0), "r"(0), "r"(a2), "r"(0), "r"(b0), "r"(b1));
}
__device__ inline std::uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

template <int Width>
struct token_values {
  uint4 keys[2][warp_state<Width>::pieces];  // of tokens lane / 4 and lane / 4 + 8: pieces 4 i + lane % 4
  uint4 values
      [4][warp_state<Width>::halves];  // of tokens 2 (lane % 4) + {0, 1, 8, 9}: piece lane / 4 of each half

  __device__ void fetch(const part_job& job, const cuda::places& cache, const device_tables& tables,
                        std::size_t value_offset, unsigned base) {
    const unsigned lane = threadIdx.x % cuda::warp_size, last = job.part.last - 1;
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const __nv_bfloat16* key =
          cuda::key_of(cache, tables, job.table, job.kv_head, Width, min(base + lane / 4 + t * 8, last));
#pragma unroll
      for (int i = 0; i < warp_state<Width>::pieces; ++i)
        keys[t][i] = cuda::load_once(key + (4 * i + lane % 4) * 8);
    }
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const __nv_bfloat16* value = cuda::key_of(cache, tables, job.table, job.kv_head, Width,
                                                min(base + lane % 4 * 2 + t % 2 + t / 2 * 8, last)) +
                                   value_offset;
#pragma unroll
      for (int h = 0; h < warp_state<Width>::halves; ++h)
        values[t][h] = cuda::load_once(value + h * 64 + lane / 4 * 8);
    }
  }
};

// Sixteen tokens from `base` on join the sums.
template <int Width>
__device__ void take_tokens(warp_state<Width>& state, const token_values<Width>& tokens, unsigned base,
                            unsigned end, const device_attention& shape) {
  const unsigned lane = threadIdx.x % cuda::warp_size;
  float scores[2][2] = {};
#pragma unroll
  for (int t = 0; t < 2; ++t)
#pragma unroll
    for (int i = 0; i < warp_state<Width>::pieces; ++i) {
      multiply_upper(scores[t], state.query[2 * i][0], state.query[2 * i][1], tokens.keys[t][i].x,
                     tokens.keys[t][i].y);
      multiply_upper(scores[t], state.query[2 * i + 1][0], state.query[2 * i + 1][1], tokens.keys[t][i].z,
                     tokens.keys[t][i].w);
    }
  float peak = state.most;
#pragma unroll
  for (int t = 0; t < 2; ++t)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float& score = scores[t][j];
      score *= shape.scale;
      if (shape.soft_cap != 0) score = shape.soft_cap * tanhf(score / shape.soft_cap);
      if (base + t * 8 + lane % 4 * 2 + j >= end) score = -INFINITY;
      peak = fmaxf(peak, score);
    }
  peak = fmaxf(peak, __shfl_xor_sync(cuda::all_lanes, peak, 1));
  peak = fmaxf(peak, __shfl_xor_sync(cuda::all_lanes, peak, 2));
  const float origin = peak == -INFINITY ? 0.0f : peak, keep = expf(state.most - origin);
  state.most = peak;
  unsigned high[2], low[2];
  float sum = 0;
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    const float one = expf(scores[t][0] - origin), two = expf(scores[t][1] - origin);
    sum += one + two;
    high[t] = cuda::pack_bf16(one, two);
    low[t] = cuda::pack_bf16(one - cuda::low_bf16(high[t]), two - cuda::high_bf16(high[t]));
  }
  state.total = state.total * keep + sum;
#pragma unroll
  for (int h = 0; h < warp_state<Width>::halves; ++h)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      float(&c)[2] = state.sums[h][j];
      c[0] *= keep;
      c[1] *= keep;
      const unsigned pick = j % 2 == 0 ? 0x5410 : 0x7632;  // the lower or the upper halves of two words
      const unsigned b0 =
          __byte_perm(word_of(tokens.values[0][h], j / 2), word_of(tokens.values[1][h], j / 2), pick);
      const unsigned b1 =
          __byte_perm(word_of(tokens.values[2][h], j / 2), word_of(tokens.values[3][h], j / 2), pick);
      multiply_upper(c, high[0], high[1], b0, b1);
      multiply_upper(c, low[0], low[1], b0, b1);
    }
}

template <int Width>
__device__ void read_queries(warp_state<Width>& state, const float* q, const part_job& job,
                             const device_attention& shape) {
  const unsigned lane = threadIdx.x % cuda::warp_size, head = job.first_head + lane / 4;
  const float* from = q + (std::size_t{job.part.row} * shape.heads + min(head, job.end_head - 1)) * Width;
#pragma unroll
  for (int i = 0; i < warp_state<Width>::pieces; ++i) {
    const float* eight = from + (4 * i + lane % 4) * 8;
#pragma unroll
    for (int w = 0; w < 4; ++w)
      state.query[2 * i + w / 2][w % 2] =
          head < job.end_head ? cuda::pack_bf16(eight[2 * w], eight[2 * w + 1]) : 0u;
  }
}

template <int Width>
using shared_sums = float[decode_warps][heads_at_once][Width + 2];

template <int Width>
__device__ void share(shared_sums<Width>& shared, const warp_state<Width>& state) {
  const unsigned lane = threadIdx.x % cuda::warp_size;
  float* to = shared[threadIdx.x / cuda::warp_size][lane / 4];
  float total = state.total + __shfl_xor_sync(cuda::all_lanes, state.total, 1);
  total += __shfl_xor_sync(cuda::all_lanes, total, 2);
#pragma unroll
  for (int h = 0; h < warp_state<Width>::halves; ++h)
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) to[h * 64 + 8 * (lane % 4 * 2 + e) + j] = state.sums[h][j][e];
  if (lane % 4 == 0) {
    to[Width] = state.most;
    to[Width + 1] = total;
  }
}

// The warps' sums, joined: a part's result, or the row's.
template <int Width>
__device__ void write_part(const shared_sums<Width>& shared, const part_job& job,
                           const device_attention& shape, float* y, float* partials) {
  for (unsigned i = threadIdx.x; i < (job.end_head - job.first_head) * Width; i += blockDim.x) {
    const unsigned h = i / Width, d = i % Width;
    cuda::running<1> joined;
    for (int w = 0; w < decode_warps; ++w) {
      const float sum[1] = {shared[w][h][d]};
      joined.join(shared[w][h][Width], shared[w][h][Width + 1], sum);
    }
    if (job.part.splits == 1) {
      y[(std::size_t{job.part.row} * shape.heads + job.first_head + h) * Width + d] =
          joined.sum[0] / joined.total;
      continue;
    }
    float* to = partials + (std::size_t{job.part.partial} * shape.heads + job.first_head + h) * (Width + 2);
    to[d] = joined.sum[0];
    if (d == 0) {
      to[Width] = joined.most;
      to[Width + 1] = joined.total;
    }
  }
}

template <int Width>
__global__ void __launch_bounds__(decode_warps* cuda::warp_size, 2)
    attend_with_tiles(float* y, const float* q, cuda::places cache, device_tables tables,
                      device_attention shape, float* partials) {
  cuda::wait_for_inputs();
  __shared__ shared_sums<Width> shared;
  const unsigned passes = (shape.heads / shape.kv_heads + heads_at_once - 1) / heads_at_once;
  const unsigned warp = threadIdx.x / cuda::warp_size;
  const std::size_t jobs = std::size_t{*tables.part_count} * shape.kv_heads * passes;
  const std::size_t value_offset = std::size_t{shape.kv_heads} * cache.block_tokens * Width;
  for (std::size_t i = blockIdx.x; i < jobs; i += gridDim.x) {
    const part_job job = job_at(i, tables, shape, passes);
    warp_state<Width> state;
    read_queries(state, q, job, shape);
    for (unsigned base = job.part.first + warp * tokens_at_once; base < job.part.last;
         base += decode_warps * tokens_at_once) {
      token_values<Width> tokens;
      tokens.fetch(job, cache, tables, value_offset, base);
      take_tokens(state, tokens, base, job.part.last, shape);
    }
    share(shared, state);
    __syncthreads();
    write_part<Width>(shared, job, shape, y, partials);
    __syncthreads();
  }
}

}  // namespace

bool decode_tiles_serve(const device_attention& shape, const device_kv& cache) {
  return (shape.head_dim == 64 || shape.head_dim == 128) && cache.block_stride % 8 == 0 &&
         cache.layer_offset % 8 == 0;
}

void attend_parts_tiles(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                        const device_tables& tables, const device_attention& shape, std::size_t part_limit,
                        float* partials, const device_limits& limits) {
  const unsigned group = shape.heads / shape.kv_heads;
  const std::size_t jobs = part_limit * shape.kv_heads * ((group + heads_at_once - 1) / heads_at_once);
  const auto blocks = static_cast<unsigned>(std::min(jobs, static_cast<std::size_t>(limits.processors) * 12));
  const auto kernel = shape.head_dim == 64 ? attend_with_tiles<64> : attend_with_tiles<128>;
  cuda::launch_behind(kernel, blocks, decode_warps * cuda::warp_size, 0, stream, y.data, q.data,
                      cuda::places(cache), tables, shape, partials);
}

}  // namespace troupe::ops
