#include <algorithm>

#include "ops/linear/matmul_tile.cuh"
#include "ops/linear/tensor_map.hpp"
#include "ops/linear/warpgroup.cuh"
#include "ops/linear/wide_tile.hpp"

namespace troupe::ops::cuda {
namespace {

constexpr unsigned wide_columns = 128;
constexpr unsigned slab_rows = 128;  // of weights; a tile has two slabs
constexpr unsigned depth = 64;       // of k
constexpr unsigned consumers = 2;    // warpgroups
constexpr unsigned wide_threads = (consumers + 1) * warpgroup_size;

template <bool Int8>
constexpr unsigned wide_stages = Int8 ? 6 : 4;
template <bool Int8>
constexpr unsigned slab_bytes = slab_rows* depth*(Int8 ? 1 : 2);
template <bool Int8>
constexpr unsigned stage_bytes = 2 * slab_bytes<Int8> + wide_columns* depth * 2;
template <bool Int8>
constexpr unsigned wide_memory = wide_stages<Int8>* stage_bytes<Int8> + 1024;

struct wide_place {
  int plane;
  unsigned row, column, columns, base;  // first row and column, columns and offset of the group
};

// The tile with that number, of a job whose groups have `row_tiles` tiles along m.
template <unsigned Rows>
__device__ bool find_tile(const wide_job& job, unsigned tile, wide_place& place) {
  const bool alone = job.groups == nullptr;
  const int groups = alone ? 1 : *job.group_count;
  const unsigned row_tiles = (job.m + Rows - 1) / Rows;
  for (int g = 0; g < groups; ++g) {
    const unsigned columns = alone ? job.columns : job.counts[g],
                   column_tiles = (columns + wide_columns - 1) / wide_columns;
    if (tile < column_tiles * row_tiles) {
      place = {alone ? 0 : job.groups[g], tile / column_tiles * Rows, tile % column_tiles * wide_columns,
               columns, alone ? 0u : static_cast<unsigned>(job.offsets[g])};
      return true;
    }
    tile -= column_tiles * row_tiles;
  }
  return false;
}

#if TROUPE_WARPGROUPS

struct stage_places {
  unsigned shared, full, empty;  // addresses; barriers are 8 bytes apart
  const char* memory;            // the same as `shared`
  template <bool Int8>
  __device__ unsigned slab(unsigned stage, unsigned i) const {
    return shared + stage * stage_bytes<Int8> + i * slab_bytes<Int8>;
  }
};

template <wide_form Form, bool Int8>
__device__ void fetch_tiles(const wide_job& job, const CUtensorMap& of_x, const CUtensorMap& of_a,
                            const stage_places& at) {
  constexpr unsigned rows = Form == wide_form::gated ? slab_rows : 2 * slab_rows;
  const auto* maps = static_cast<const CUtensorMap*>(job.maps);
  ring r;
  wide_place place;
  for (unsigned tile = blockIdx.x; find_tile<rows>(job, tile, place); tile += gridDim.x) {
    const CUtensorMap* first = maps == nullptr ? &of_a : maps + place.plane;
    const CUtensorMap* second = Form == wide_form::gated ? first + job.plane_count : first;
    if (maps != nullptr) acquire_map(first);
    if (Form == wide_form::gated) acquire_map(second);
    for (unsigned at_k = 0; at_k < job.k; at_k += depth) {
      wait_barrier(at.empty + 8 * r.stage, r.parity ^ 1);
      const unsigned full = at.full + 8 * r.stage;
      arrive_with_bytes(full, stage_bytes<Int8>);
      const int k = static_cast<int>(at_k), row = static_cast<int>(place.row);
      fetch_box(at.slab<Int8>(r.stage, 0), first, full, k, row);
      fetch_box(at.slab<Int8>(r.stage, 1), second, full, k,
                Form == wide_form::gated ? row : row + static_cast<int>(slab_rows));
      fetch_box(at.slab<Int8>(r.stage, 2), &of_x, full, k, static_cast<int>(place.base + place.column));
      r.advance<wide_stages<Int8>>();
    }
  }
}

template <wide_form Form, bool Int8>
__device__ void write_tile(const wide_job& job, const wide_place& place, const float (&c)[2][16][4]) {
  const unsigned lane = threadIdx.x % warp_size,
                 row0 = (threadIdx.x - warpgroup_size) / warp_size * 16 + lane / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const unsigned row = place.row + row0 + half * 8, second = row + slab_rows;
    float factors[2] = {1, 1};
    if constexpr (Int8) {
      const float* first = job.own_scales != nullptr ? job.own_scales : job.scales[place.plane];
      factors[0] = first[min(row, job.m - 1)];
      factors[1] = Form == wide_form::gated ? job.up_scales[place.plane][min(row, job.m - 1)]
                                            : first[min(second, job.m - 1)];
    }
    const unsigned to_row = Int8 ? permuted(row) : row;
#pragma unroll
    for (int t = 0; t < 16; ++t)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const unsigned column = place.column + t * 8 + lane % 4 * 2 + j;
        if (column >= place.columns) continue;
        const std::size_t to = std::size_t{place.base + column} * job.m;
        const float one = c[0][t][half * 2 + j] * factors[0], two = c[1][t][half * 2 + j] * factors[1];
        if constexpr (Form == wide_form::gated) {
          if (row < job.m) job.hidden[to + to_row] = __float2bfloat16(activate(job.act, one) * two);
        } else {
          if (row < job.m) job.y[to + row] = one;
          if (second < job.m) job.y[to + second] = two;
        }
      }
  }
}

// The products of one tile with bf16 weights.
__device__ void multiply_bf16(float (&c)[2][16][4], const wide_job& job, const stage_places& at, ring& r) {
  const unsigned own = (threadIdx.x / warpgroup_size - 1) * 64 * row_bytes;
  const bool speaker = threadIdx.x % warp_size == 0;
  unsigned before = 0;
  for (unsigned at_k = 0; at_k < job.k; at_k += depth) {
    wait_barrier(at.full + 8 * r.stage, r.parity);
    open_products();
#pragma unroll
    for (unsigned k = 0; k < depth / 16; ++k) {
      const auto x = describe_tile(at.slab<false>(r.stage, 2) + k * 32, 1024, 16);
#pragma unroll
      for (int i = 0; i < 2; ++i)
        warpgroup_multiply(c[i], describe_tile(at.slab<false>(r.stage, i) + own + k * 32, 1024, 16), x,
                           at_k + k != 0);
    }
    close_products();
    wait_products<1>();
    if (at_k != 0 && speaker) arrive(at.empty + 8 * before);
    before = r.stage;
    r.advance<wide_stages<false>>();
  }
  wait_products<0>();
  if (speaker) arrive(at.empty + 8 * before);
}

// A thread's part of a stage of int8 weights as bf16: for each 16 of k and each slab.
using widened = unsigned[depth / 16][2][4];

__device__ inline void widen_stage(widened& a, const stage_places& at, unsigned stage) {
  const unsigned thread = threadIdx.x - warpgroup_size, lane = thread % warp_size;
  const unsigned place = (thread / warp_size * 16 + lane / 4) * depth + lane % 4 * 16;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const char* from = at.memory + (at.slab<true>(stage, i) - at.shared) + place;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint4 v = *reinterpret_cast<const uint4*>(from + half * 8 * depth);
      const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        a[k][i][half] = widen_pair(words[k]);
        a[k][i][half + 2] = widen_pair(words[k] >> 8);
      }
    }
  }
}

// The same with int8 weights: while the products of one stage run, the next one's weights become bf16.
__device__ void multiply_int8(float (&c)[2][16][4], const wide_job& job, const stage_places& at, ring& r) {
  const bool speaker = threadIdx.x % warp_size == 0;
  const unsigned steps = job.k / depth;
  widened even, odd;
  wait_barrier(at.full + 8 * r.stage, r.parity);
  widen_stage(even, at, r.stage);
  const auto turn = [&](widened& now, widened& next, unsigned step) {
    const unsigned stage = r.stage;
    open_products();
#pragma unroll
    for (unsigned k = 0; k < depth / 16; ++k) {
      const auto x = describe_tile(at.slab<true>(stage, 2) + k * 32, 1024, 16);
#pragma unroll
      for (int i = 0; i < 2; ++i) warpgroup_multiply<false>(c[i], now[k][i], x, step + k != 0);
    }
    close_products();
    r.advance<wide_stages<true>>();
    if (step + 1 < steps) {
      wait_barrier(at.full + 8 * r.stage, r.parity);
      widen_stage(next, at, r.stage);
    }
    wait_products<0>();
    if (speaker) arrive(at.empty + 8 * stage);
  };
  for (unsigned step = 0; step < steps; step += 2) {
    turn(even, odd, step);
    if (step + 1 < steps) turn(odd, even, step + 1);
  }
}

#endif

template <wide_form Form, bool Int8>
__global__ void __launch_bounds__(wide_threads, 1)
    wide_tiles(const __grid_constant__ wide_job job, const __grid_constant__ CUtensorMap of_x,
               const __grid_constant__ CUtensorMap of_a) {
#if TROUPE_WARPGROUPS
  extern __shared__ char unaligned[];
  __shared__ __align__(8) std::uint64_t barriers[2 * wide_stages<Int8>];
  constexpr unsigned rows = Form == wide_form::gated ? slab_rows : 2 * slab_rows;
  const unsigned begin = shared_address(unaligned), shared = (begin + 1023) / 1024 * 1024;
  const stage_places at{shared, shared_address(barriers), shared_address(barriers + wide_stages<Int8>),
                        unaligned + (shared - begin)};
  if (threadIdx.x == 0) {
    for (unsigned s = 0; s < wide_stages<Int8>; ++s) {
      make_barrier(at.full + 8 * s, 1);
      make_barrier(at.empty + 8 * s, consumers * (warpgroup_size / warp_size));
    }
    publish_barriers();
  }
  __syncthreads();
  wait_for_inputs();
  if (threadIdx.x < warpgroup_size) {
    give_registers<40>();
    if (threadIdx.x == 0) fetch_tiles<Form, Int8>(job, of_x, of_a, at);
  } else {
    take_registers<232>();
    ring r;
    wide_place place;
    for (unsigned tile = blockIdx.x; find_tile<rows>(job, tile, place); tile += gridDim.x) {
      float c[2][16][4];
      if constexpr (Int8)
        multiply_int8(c, job, at, r);
      else
        multiply_bf16(c, job, at, r);
      hold(c[0]);
      hold(c[1]);
      write_tile<Form, Int8>(job, place, c);
    }
  }
#endif
}

template <wide_form Form, bool Int8>
void go(cudaStream_t stream, const wide_job& job, const CUtensorMap& of_x, const CUtensorMap& of_a,
        std::size_t tiles, const device_limits& limits) {
  const auto kernel = wide_tiles<Form, Int8>;
  const auto blocks = static_cast<unsigned>(std::min<std::size_t>(tiles, limits.processors));
  launch_behind(kernel, blocks, wide_threads, wide_memory<Int8>, stream, job, of_x, of_a);
}

}  // namespace

bool wide_tiles_serve(std::size_t m, std::size_t k) {
  return warpgroups_serve() && k % depth == 0 && k > 0 && m % depth == 0;
}

bool launch_wide(cudaStream_t stream, wide_form form, const wide_job& job, std::size_t columns,
                 const device_limits& limits) {
  if (columns == 0) return true;
  CUtensorMap model, of_x;
  if (!make_map(model, job.maps, job.int8(), job.m, job.k, slab_rows) ||
      !make_map(of_x, job.x, false, columns, job.k, wide_columns))
    return false;
  const bool gated = form == wide_form::gated;
  place_maps(stream, static_cast<CUtensorMap*>(job.maps), model, job.planes, gated ? job.up_planes : nullptr,
             job.plane_count);
  const std::size_t rows = gated ? slab_rows : 2 * slab_rows,
                    tiles = (columns / wide_columns + job.plane_count) * ((job.m + rows - 1) / rows);
  if (gated && job.int8())
    go<wide_form::gated, true>(stream, job, of_x, model, tiles, limits);
  else if (gated)
    go<wide_form::gated, false>(stream, job, of_x, model, tiles, limits);
  else if (job.int8())
    go<wide_form::plain, true>(stream, job, of_x, model, tiles, limits);
  else
    go<wide_form::plain, false>(stream, job, of_x, model, tiles, limits);
  return true;
}

bool launch_wide_int8(cudaStream_t stream, device_floats y, device_rows<const __nv_bfloat16> x,
                      const device_matrix& weight, const device_limits& limits) {
  if (x.rows == 0) return true;
  wide_job job;
  job.own_scales = weight.scales;
  job.x = x.data;
  job.y = y.data;
  job.m = static_cast<unsigned>(weight.rows);
  job.k = static_cast<unsigned>(weight.columns);
  job.columns = static_cast<unsigned>(x.rows);
  CUtensorMap of_a, of_x;
  if (!make_map(of_a, weight.data, true, job.m, job.k, slab_rows) ||
      !make_map(of_x, x.data, false, x.rows, job.k, wide_columns))
    return false;
  const std::size_t tiles =
      (x.rows + wide_columns - 1) / wide_columns * ((weight.rows + 2 * slab_rows - 1) / (2 * slab_rows));
  go<wide_form::plain, true>(stream, job, of_x, of_a, tiles, limits);
  return true;
}

}  // namespace troupe::ops::cuda
