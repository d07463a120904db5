#include <algorithm>
#include <climits>

#include "ops/device/cuda_launch.cuh"
#include "ops/linear/linear_cuda.hpp"
#include "ops/linear/matmul_tile.cuh"
#include "ops/linear/stored.cuh"
#include "ops/linear/wide_tile.hpp"
#include "ops/moe/experts_cuda.hpp"
#include "ops/moe/experts_few.hpp"

namespace troupe::ops {
namespace {

constexpr unsigned plan_threads = 256;

// Pairs (row, choice) sorted by expert. P = T · k; group g is the g-th expert that anybody chose.
struct plan {
  std::int32_t* group_count;  // [1]
  std::int32_t* groups;       // [E] expert
  std::int32_t* offsets;      // [E]
  std::int32_t* counts;       // [E]
  std::int32_t* rows;         // [P] row of x
  std::int32_t* choices;      // [P] row · k + choice
  std::int32_t* places;       // [P] of row · k + choice: its place in the order
};

struct parts {
  plan order;
  __nv_bfloat16* x;       // [T, D]; wide: [P, D], in the plan's order
  __nv_bfloat16* hidden;  // [P, F]
  float* out;             // [P, D]
  void* maps;             // wide
};

bool runs_wide(std::size_t rows, std::size_t width, std::size_t top_k, const device_experts& mlp) {
  return rows * top_k >= mlp.wide_from * mlp.experts && cuda::wide_tiles_serve(mlp.hidden, width) &&
         cuda::wide_tiles_serve(width, mlp.hidden);
}

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// Lays the parts out behind `base` and answers their size.
std::size_t lay_out(char* base, std::size_t rows, std::size_t width, std::size_t top_k,
                    const device_experts& mlp, parts& out) {
  std::size_t at = 0;
  const auto take = [&]<class T>(T*& p, std::size_t count) {
    p = reinterpret_cast<T*>(base + at);
    at += round_up(count * sizeof(T));
  };
  const std::size_t pairs = rows * top_k;
  take(out.order.group_count, 1);
  take(out.order.groups, mlp.experts);
  take(out.order.offsets, mlp.experts);
  take(out.order.counts, mlp.experts);
  take(out.order.rows, pairs);
  take(out.order.choices, pairs);
  take(out.order.places, pairs);
  const bool wide = runs_wide(rows, width, top_k, mlp);
  take(out.x, (wide ? pairs : rows) * width);
  take(out.hidden, pairs * mlp.hidden);
  take(out.out, pairs * width);
  char* maps = nullptr;
  take(maps, wide ? cuda::wide_map_bytes(mlp.experts) : 0);
  out.maps = maps;
  return at;
}

// One block for each expert: counts what is chosen, then lists its own pairs in ascending order.
__global__ void sort_pairs(plan order, const std::int32_t* experts, unsigned pairs, unsigned top_k,
                           unsigned expert_count) {
  extern __shared__ int counts[];
  cuda::wait_for_inputs();
  __shared__ int warp_totals[plan_threads / cuda::warp_size];
  const int own = blockIdx.x;
  for (unsigned e = threadIdx.x; e < expert_count; e += plan_threads) counts[e] = 0;
  __syncthreads();
  for (unsigned p = threadIdx.x; p < pairs; p += plan_threads)
    if (experts[p] >= 0) atomicAdd(&counts[experts[p]], 1);
  __syncthreads();
  int begin = 0, group = 0;
  for (int e = 0; e < own; ++e) {
    begin += counts[e];
    group += counts[e] > 0;
  }
  if (threadIdx.x == 0) {
    if (counts[own] > 0) {
      order.groups[group] = own;
      order.offsets[group] = begin;
      order.counts[group] = counts[own];
    }
    if (own + 1 == static_cast<int>(expert_count)) *order.group_count = group + (counts[own] > 0);
  }
  if (counts[own] == 0) return;
  const unsigned lane = threadIdx.x % cuda::warp_size, warp = threadIdx.x / cuda::warp_size;
  for (unsigned first = 0; first < pairs; first += plan_threads) {
    const unsigned p = first + threadIdx.x;
    const bool mine = p < pairs && experts[p] == own;
    const unsigned votes = __ballot_sync(cuda::all_lanes, mine);
    if (lane == 0) warp_totals[warp] = __popc(votes);
    __syncthreads();
    int at = begin + __popc(votes & ((1u << lane) - 1));
    for (unsigned w = 0; w < warp; ++w) at += warp_totals[w];
    for (unsigned w = 0; w < plan_threads / cuda::warp_size; ++w) begin += warp_totals[w];
    if (mine) {
      order.rows[at] = static_cast<int>(p / top_k);
      order.choices[at] = static_cast<int>(p);
      order.places[p] = at;
    }
    __syncthreads();
  }
}

// Whether the streaming kernels are the faster ones: with int8 conversion holds them back from three rows on, else what they keep of the
// rows in shared memory.
bool streams(std::size_t rows, std::size_t width, bool int8) {
  return rows <= 2 || (!int8 && rows <= few_rows && cuda::chunk_numbers(width, few_rows) >= width);
}

// y[t] = sum over the row's places, ascending: that is by expert.
__global__ void combine(plan order, const float* out, const float* weights, const std::int32_t* experts,
                        float* y, unsigned width, unsigned top_k) {
  cuda::wait_for_inputs();
  const unsigned d = blockIdx.x * blockDim.x + threadIdx.x;
  if (d >= width) return;
  const std::size_t first = std::size_t{blockIdx.y} * top_k;
  float sum = 0;
  int last = -1;
  for (unsigned i = 0; i < top_k; ++i) {
    int next = INT_MAX, choice = -1;
    for (unsigned c = 0; c < top_k; ++c)
      if (experts[first + c] >= 0 && order.places[first + c] > last && order.places[first + c] < next) {
        next = order.places[first + c];
        choice = static_cast<int>(c);
      }
    if (choice < 0) break;
    sum += weights[first + choice] * out[std::size_t(next) * width + d];
    last = next;
  }
  y[std::size_t{blockIdx.y} * width + d] = sum;
}

void sort(cudaStream_t stream, const parts& p, device_rows<const std::int32_t> experts,
          const device_experts& mlp) {
  cuda::launch_behind(sort_pairs, static_cast<unsigned>(mlp.experts), plan_threads, mlp.experts * sizeof(int),
                      stream, p.order, experts.data, static_cast<unsigned>(experts.rows * experts.width),
                      static_cast<unsigned>(experts.width), static_cast<unsigned>(mlp.experts));
}

void combine_rows(cudaStream_t stream, const parts& p, device_floats y, device_inputs weights,
                  device_rows<const std::int32_t> experts) {
  const dim3 grid(static_cast<unsigned>((y.width + 255) / 256), static_cast<unsigned>(y.rows));
  cuda::launch_behind(combine, grid, 256, 0, stream, p.order, p.out, weights.data, experts.data, y.data,
                      static_cast<unsigned>(y.width), static_cast<unsigned>(experts.width));
}

void run_tiles(cudaStream_t stream, device_floats y, device_inputs x, device_inputs weights,
               device_rows<const std::int32_t> experts, const device_experts& mlp, const parts& p,
               const device_limits& limits) {
  sort(stream, p, experts, mlp);
  to_bf16_cuda(stream, p.x, x, mlp.gate_scales != nullptr);
  const std::size_t pairs = experts.rows * experts.width, groups = std::min(mlp.experts, pairs);
  cuda::tile_job job;
  job.planes = mlp.gate;
  job.up_planes = mlp.up;
  job.scales = mlp.gate_scales;
  job.up_scales = mlp.up_scales;
  job.b = p.x;
  job.b_rows = p.order.rows;
  job.hidden = p.hidden;
  job.groups = p.order.groups;
  job.offsets = p.order.offsets;
  job.counts = p.order.counts;
  job.group_count = p.order.group_count;
  job.m = static_cast<unsigned>(mlp.hidden);
  job.k = static_cast<unsigned>(x.width);
  job.act = mlp.act;
  cuda::launch_tiles<cuda::tile_form::gated>(stream, job, groups, pairs, limits);
  job.planes = mlp.down;
  job.scales = mlp.down_scales;
  job.b = p.hidden;
  job.b_rows = nullptr;
  job.y = p.out;
  job.m = static_cast<unsigned>(x.width);
  job.k = static_cast<unsigned>(mlp.hidden);
  cuda::launch_tiles<cuda::tile_form::grouped>(stream, job, groups, pairs, limits);
  combine_rows(stream, p, y, weights, experts);
}

// The pairs' rows of x as bf16, in the plan's order; eight numbers for each thread.
template <bool Permuted>
__global__ void gather(plan order, __nv_bfloat16* to, const float* x, unsigned width) {
  cuda::wait_for_inputs();
  const int last = *order.group_count - 1;
  if (last < 0 || static_cast<int>(blockIdx.x) >= order.offsets[last] + order.counts[last]) return;
  const unsigned n = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
  if (n >= width) return;
  const float* from = x + std::size_t(order.rows[blockIdx.x]) * width;
  __align__(16) __nv_bfloat16 out[8];
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) {
    out[i] = __float2bfloat16(from[Permuted ? cuda::number_at(n + i) : n + i]);
  }
  *reinterpret_cast<uint4*>(to + std::size_t{blockIdx.x} * width + n) = *reinterpret_cast<const uint4*>(out);
}

bool run_wide(cudaStream_t stream, device_floats y, device_inputs x, device_inputs weights,
              device_rows<const std::int32_t> experts, const device_experts& mlp, const parts& p,
              const device_limits& limits) {
  sort(stream, p, experts, mlp);
  const std::size_t pairs = experts.rows * experts.width;
  cuda::wide_job job;
  job.planes = mlp.gate;
  job.up_planes = mlp.up;
  job.scales = mlp.gate_scales;
  job.up_scales = mlp.up_scales;
  job.x = p.x;
  job.hidden = p.hidden;
  job.groups = p.order.groups;
  job.offsets = p.order.offsets;
  job.counts = p.order.counts;
  job.group_count = p.order.group_count;
  job.maps = p.maps;
  job.plane_count = static_cast<unsigned>(mlp.experts);
  job.m = static_cast<unsigned>(mlp.hidden);
  job.k = static_cast<unsigned>(x.width);
  job.act = mlp.act;
  const dim3 pair_grid(static_cast<unsigned>(pairs), static_cast<unsigned>((x.width + 2047) / 2048));
  cuda::launch_behind(job.int8() ? gather<true> : gather<false>, pair_grid, 256, 0, stream, p.order, p.x,
                      x.data, job.k);
  if (!cuda::launch_wide(stream, cuda::wide_form::gated, job, pairs, limits)) return false;
  job.planes = mlp.down;
  job.scales = mlp.down_scales;
  job.x = p.hidden;
  job.y = p.out;
  job.m = static_cast<unsigned>(x.width);
  job.k = static_cast<unsigned>(mlp.hidden);
  if (!cuda::launch_wide(stream, cuda::wide_form::plain, job, pairs, limits)) return false;
  combine_rows(stream, p, y, weights, experts);
  return true;
}

}  // namespace

std::size_t experts_workspace(std::size_t rows, std::size_t width, std::size_t top_k,
                              const device_experts& mlp) {
  parts ignored;
  return lay_out(nullptr, rows, width, top_k, mlp, ignored);
}

void experts_cuda(cudaStream_t stream, device_floats y, device_inputs x, device_inputs weights,
                  device_rows<const std::int32_t> experts, const device_experts& mlp, void* workspace,
                  const device_limits& limits) {
  if (x.rows == 0) return;
  parts p;
  lay_out(static_cast<char*>(workspace), x.rows, x.width, experts.width, mlp, p);
  if (runs_wide(x.rows, x.width, experts.width, mlp) &&
      run_wide(stream, y, x, weights, experts, mlp, p, limits))
    return;
  const bool int8 = mlp.gate_scales != nullptr;
  const std::size_t load = int8 ? cuda::tile_depth : 8;
  if (!streams(x.rows, std::max(x.width, mlp.hidden), int8) && x.width % load == 0 && mlp.hidden % load == 0)
    return run_tiles(stream, y, x, weights, experts, mlp, p, limits);
  const std::size_t k = experts.width, slice = std::clamp<std::size_t>(few_pairs / k, 1, few_rows);
  for (std::size_t first = 0; first < x.rows; first += slice) {
    const std::size_t rows = std::min(slice, x.rows - first);
    experts_few(stream, {y.data + first * x.width, rows, x.width}, {x.data + first * x.width, rows, x.width},
                weights.data + first * k, {experts.data + first * k, rows, k}, mlp, p.hidden, limits);
  }
}

}  // namespace troupe::ops
