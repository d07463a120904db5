// Prefill on Hopper's warpgroups for heads of 128 numbers: a block takes up to 128 queries (tokens times the heads that share a
// key/value head) over all the keys that they see, 128 at a time. One warpgroup fetches keys and values, two multiply, 64 queries each.
#include "ops/attention/attention_cache.cuh"
#include "ops/attention/attention_wide.hpp"
#include "ops/device/cuda_launch.cuh"
#include "ops/linear/matmul_tile.cuh"
#include "ops/linear/tensor_map.hpp"
#include "ops/linear/warpgroup.cuh"

namespace troupe::ops {
namespace {

constexpr unsigned width = 128, stages = 2;
[[maybe_unused]] constexpr unsigned keys = 128;  // of a tile
constexpr unsigned threads = 3 * cuda::warpgroup_size;
constexpr unsigned half_bytes = 128 * 128;  // 128 rows of 64 numbers
constexpr unsigned tile_bytes = 2 * half_bytes;
constexpr unsigned memory_bytes = (1 + 2 * stages) * tile_bytes + 1024;

#if TROUPE_WARPGROUPS

// Where 16-byte piece `piece` of row `row` stands in a tile of two halves.
__device__ inline unsigned place_of(unsigned row, unsigned piece) {
  return piece / 8 * half_bytes + cuda::piece_at(row, piece % 8);
}

struct wide_tile_job {
  std::uint32_t row, count, table;
  unsigned first_position, last_position, kv_head, group;

  __device__ unsigned key_tiles() const { return last_position / keys + 1; }
};

struct memory_places {
  unsigned queries, full_keys, full_values, empty;  // addresses; barriers of the stages 8 bytes apart
  __device__ unsigned keys_at(unsigned stage) const { return queries + (1 + 2 * stage) * tile_bytes; }
  __device__ unsigned values_at(unsigned stage) const { return keys_at(stage) + tile_bytes; }
};

__device__ inline void announce(unsigned barrier) {
  cuda::publish_shared();
  __syncwarp();
  if (threadIdx.x % cuda::warp_size == 0) cuda::arrive(barrier);
}

// Keys and values, tile by tile; a tile is announced when the copies of the one behind it are on their way.
__device__ void fetch_all(const wide_tile_job& job, const memory_places& at, const cuda::places& cache,
                          const device_tables& tables, const device_attention& shape) {
  constexpr unsigned pieces = width / 8, rows_at_once = cuda::warpgroup_size / pieces;
  const unsigned piece = threadIdx.x % pieces, own = threadIdx.x / pieces;
  const std::size_t value_offset = std::size_t{shape.kv_heads} * cache.block_tokens * width;
  cuda::ring r;
  unsigned before = 0;
  for (unsigned tile = 0; tile < job.key_tiles(); ++tile) {
    cuda::wait_barrier(at.empty + 8 * r.stage, r.parity ^ 1);
    const __nv_bfloat16* from[keys / rows_at_once];
#pragma unroll
    for (unsigned i = 0; i < keys / rows_at_once; ++i) {
      const unsigned position = min(tile * keys + own + i * rows_at_once, job.last_position);
      from[i] = cuda::key_of(cache, tables, job.table, job.kv_head, width, position) + piece * 8;
    }
    const auto size = [&](unsigned i) {
      return tile * keys + own + i * rows_at_once <= job.last_position ? 16u : 0u;
    };
#pragma unroll
    for (unsigned i = 0; i < keys / rows_at_once; ++i)
      cuda::copy_ahead(at.keys_at(r.stage) + place_of(own + i * rows_at_once, piece), from[i], size(i));
    cuda::close_group();
    if (tile > 0) {
      cuda::wait_groups<1>();
      announce(at.full_values + 8 * before);
    }
#pragma unroll
    for (unsigned i = 0; i < keys / rows_at_once; ++i)
      cuda::copy_ahead(at.values_at(r.stage) + place_of(own + i * rows_at_once, piece),
                       from[i] + value_offset, size(i));
    cuda::close_group();
    cuda::wait_groups<1>();
    announce(at.full_keys + 8 * r.stage);
    before = r.stage;
    r.advance<stages>();
  }
  cuda::wait_groups<0>();
  announce(at.full_values + 8 * before);
}

// A warpgroup's 64 queries to shared memory.
__device__ void stage_queries(const wide_tile_job& job, const memory_places& at, char* memory, const float* q,
                              const device_attention& shape) {
  const unsigned thread = threadIdx.x % cuda::warpgroup_size, own = threadIdx.x / cuda::warpgroup_size - 1;
  for (unsigned i = thread; i < 64 * width / 8; i += cuda::warpgroup_size) {
    const unsigned r = own * 64 + i / (width / 8), piece = i % (width / 8);
    unsigned words[4] = {};
    if (r < job.count * job.group) {
      const float* from =
          q +
          (std::size_t{job.row + r / job.group} * shape.heads + job.kv_head * job.group + r % job.group) *
              width +
          piece * 8;
      for (int j = 0; j < 4; ++j) words[j] = cuda::pack_bf16(from[2 * j], from[2 * j + 1]);
    }
    *reinterpret_cast<uint4*>(memory + place_of(r, piece)) = {words[0], words[1], words[2], words[3]};
  }
  cuda::publish_shared();
  asm volatile("bar.sync %0, %1;" ::"r"(own + 1), "n"(cuda::warpgroup_size) : "memory");
}

__device__ inline float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The softmax so far of two rows of a thread; scores times `scale` are exponents of two.
struct softmax_state {
  float most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};

  // Scores become weights; returns what older sums are to be multiplied by.
  __device__ void take(float (&scores)[16][4], float scale, float (&keep)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float peak = most[half];
#pragma unroll
      for (int t = 0; t < 16; ++t) peak = fmaxf(peak, fmaxf(scores[t][half * 2], scores[t][half * 2 + 1]));
      peak = fmaxf(peak, __shfl_xor_sync(cuda::all_lanes, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(cuda::all_lanes, peak, 2));
      const float origin = peak == -INFINITY ? 0.0f : peak * scale;
      keep[half] = power_of_two(most[half] * scale - origin);
      most[half] = peak;
      float sum = 0;
#pragma unroll
      for (int t = 0; t < 16; ++t)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[t][half * 2 + j];
          score = power_of_two(fmaf(score, scale, -origin));
          sum += score;
        }
      total[half] = total[half] * keep[half] + sum;
    }
  }
  __device__ float whole(int half) const {
    float sum = total[half] + __shfl_xor_sync(cuda::all_lanes, total[half], 1);
    return sum + __shfl_xor_sync(cuda::all_lanes, sum, 2);
  }
};

__device__ void attend_all(const wide_tile_job& job, const memory_places& at, float* y,
                           const device_attention& shape) {
  const unsigned lane = threadIdx.x % cuda::warp_size;
  const unsigned group64 = threadIdx.x / cuda::warpgroup_size - 1;
  const unsigned first_row =
      group64 * 64 + threadIdx.x % cuda::warpgroup_size / cuda::warp_size * 16 + lane / 4;
  unsigned own_position[2];
  for (unsigned half = 0; half < 2; ++half)
    own_position[half] = job.first_position + min((first_row + half * 8) / job.group, job.count - 1);
  const float scale = shape.scale * 1.4426950408889634f;
  const unsigned queries = at.queries + group64 * 64 * cuda::row_bytes;
  float scores[16][4], sums[16][4], keep[2];
  softmax_state softmax;
  cuda::ring r;
  for (unsigned tile = 0; tile < job.key_tiles(); ++tile) {
    cuda::wait_barrier(at.full_keys + 8 * r.stage, r.parity);
    cuda::open_products();
#pragma unroll
    for (unsigned k = 0; k < width / 16; ++k) {
      const unsigned step = k / 4 * half_bytes + k % 4 * 32;
      cuda::warpgroup_multiply(scores, cuda::describe_tile(queries + step, 1024, 16),
                               cuda::describe_tile(at.keys_at(r.stage) + step, 1024, 16), k != 0);
    }
    cuda::close_products();
    cuda::wait_products<0>();
    cuda::hold(scores);
    if (tile * keys + keys - 1 > job.first_position) {
#pragma unroll
      for (int t = 0; t < 16; ++t)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (tile * keys + t * 8 + lane % 4 * 2 + j % 2 > own_position[j / 2]) scores[t][j] = -INFINITY;
    }
    softmax.take(scores, scale, keep);
    unsigned weights[keys / 16][4];
#pragma unroll
    for (unsigned k = 0; k < keys / 16; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        weights[k][i] =
            cuda::pack_bf16(scores[2 * k + i / 2][i % 2 * 2], scores[2 * k + i / 2][i % 2 * 2 + 1]);
    if (tile > 0) {
#pragma unroll
      for (int t = 0; t < 16; ++t)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[t][j] *= keep[j / 2];
    }
    cuda::wait_barrier(at.full_values + 8 * r.stage, r.parity);
    cuda::open_products();
#pragma unroll
    for (unsigned k = 0; k < keys / 16; ++k)
      cuda::warpgroup_multiply<true>(sums, weights[k],
                                     cuda::describe_tile(at.values_at(r.stage) + k * 2048, 1024, half_bytes),
                                     tile + k != 0);
    cuda::close_products();
    cuda::wait_products<0>();
    cuda::hold(sums);
    if (lane == 0) cuda::arrive(at.empty + 8 * r.stage);
    r.advance<stages>();
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float whole = softmax.whole(half);
    const unsigned row = first_row + half * 8;
    if (row >= job.count * job.group) continue;
    float* to = y + (std::size_t{job.row + row / job.group} * shape.heads + job.kv_head * job.group +
                     row % job.group) *
                        width;
#pragma unroll
    for (int t = 0; t < 16; ++t)
      *reinterpret_cast<float2*>(to + t * 8 + lane % 4 * 2) = {sums[t][half * 2] / whole,
                                                               sums[t][half * 2 + 1] / whole};
  }
}

#endif

__global__ void __launch_bounds__(threads, 1)
    attend_wide(float* y, const float* q, const __grid_constant__ cuda::places cache,
                const __grid_constant__ device_tables tables,
                const __grid_constant__ device_attention shape) {
#if TROUPE_WARPGROUPS
  extern __shared__ char unaligned[];
  __shared__ __align__(8) std::uint64_t barriers[3 * stages];
  const unsigned begin = cuda::shared_address(unaligned), aligned = (begin + 1023) / 1024 * 1024;
  const memory_places at{aligned, cuda::shared_address(barriers), cuda::shared_address(barriers + stages),
                         cuda::shared_address(barriers + 2 * stages)};
  if (threadIdx.x == 0) {
    for (unsigned s = 0; s < stages; ++s) {
      cuda::make_barrier(at.full_keys + 8 * s, cuda::warpgroup_size / cuda::warp_size);
      cuda::make_barrier(at.full_values + 8 * s, cuda::warpgroup_size / cuda::warp_size);
      cuda::make_barrier(at.empty + 8 * s, 2 * cuda::warpgroup_size / cuda::warp_size);
    }
    cuda::publish_barriers();
  }
  __syncthreads();
  cuda::wait_for_inputs();
  const query_tile tile = tables.tiles[gridDim.y - 1 - blockIdx.y];  // the longest first
  const unsigned first = tables.positions[tile.row];
  const wide_tile_job job{tile.row,
                          tile.count,
                          tables.table_starts[tables.row_sequences[tile.row]],
                          first,
                          first + tile.count - 1,
                          blockIdx.x,
                          shape.heads / shape.kv_heads};
  if (threadIdx.x < cuda::warpgroup_size) {
    cuda::give_registers<88>();
    fetch_all(job, at, cache, tables, shape);
  } else {
    cuda::take_registers<208>();
    stage_queries(job, at, unaligned + (aligned - begin), q, shape);
    attend_all(job, at, y, shape);
  }
#endif
}

}  // namespace

bool wide_attention_serves(const device_attention& shape, const device_kv& cache) {
  return cuda::warpgroups_serve() && shape.head_dim == width && shape.window == 0 && shape.soft_cap == 0 &&
         tiles_serve(shape, cache);
}

void attend_wide_cuda(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                      const device_tables& tables, const device_attention& shape, std::size_t tile_count) {
  if (tile_count == 0) return;
  cudaFuncSetAttribute(attend_wide, cudaFuncAttributeMaxDynamicSharedMemorySize, memory_bytes);
  const dim3 grid(shape.kv_heads, static_cast<unsigned>(tile_count));
  cuda::launch_behind(attend_wide, grid, threads, memory_bytes, stream, y.data, q.data, cuda::places(cache),
                      tables, shape);
}

}  // namespace troupe::ops
