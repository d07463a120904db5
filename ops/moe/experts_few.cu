#include <algorithm>

#include "ops/device/cuda_launch.cuh"
#include "ops/linear/linear_cuda.hpp"
#include "ops/linear/stored.cuh"
#include "ops/moe/experts_few.hpp"

namespace troupe::ops {
namespace {

constexpr int warps = 8;
constexpr int blocks_at_once = 2;  // of a processor
constexpr unsigned threads = warps * cuda::warp_size;
static_assert(few_pairs <= threads);

// Pairs (row, choice) sorted by expert, rows ascending within one; in shared memory.
struct few_plan {
  int group_count;
  int groups[few_pairs], offsets[few_pairs], counts[few_pairs];  // of the g-th expert that anybody chose
  int choices[few_pairs];                                        // row · k + choice
  int experts[few_pairs];                                        // of each pair; -1 = none
  bool first[few_pairs];                                         // of its expert
};

__device__ void make_plan(few_plan& plan, const std::int32_t* experts, unsigned pairs) {
  const unsigned p = threadIdx.x;
  const int own = p < pairs ? experts[p] : -1;
  if (p < pairs) plan.experts[p] = own;
  if (p == 0) plan.group_count = 0;
  __syncthreads();
  int less = 0, before = 0, same = 0;
  for (unsigned q = 0; q < pairs && own >= 0; ++q) {
    const int other = plan.experts[q];
    less += other >= 0 && other < own;
    before += other == own && q < p;
    same += other == own;
  }
  if (p < pairs) plan.first[p] = own >= 0 && before == 0;
  __syncthreads();
  if (own >= 0) {
    plan.choices[less + before] = static_cast<int>(p);
    int group = 0;
    for (unsigned q = 0; q < pairs; ++q) group += plan.first[q] && plan.experts[q] < own;
    if (before == 0) {
      plan.groups[group] = own;
      plan.offsets[group] = less;
      plan.counts[group] = same;
      atomicAdd(&plan.group_count, 1);
    }
  }
  __syncthreads();
}

// Hidden numbers: each block takes a run of (expert, eight rows of gate and up), a warp one of the eight.
template <class Numbers, bool Aligned, int Count>
__global__ void __launch_bounds__(threads, blocks_at_once)
    gate_up(const std::int32_t* experts, const __grid_constant__ device_experts mlp, const float* x,
            __nv_bfloat16* hidden, unsigned width, unsigned pairs, unsigned top_k, unsigned chunk) {
  extern __shared__ __align__(16) __nv_bfloat16 staged[];
  __shared__ few_plan plan;
  cuda::wait_for_inputs();
  make_plan(plan, experts, pairs);
  const auto size = static_cast<unsigned>(mlp.hidden), eights = (size + warps - 1) / warps;
  const unsigned total = plan.group_count * eights, own = (total + gridDim.x - 1) / gridDim.x;
  const unsigned begin = blockIdx.x * own, end = min(begin + own, total);
  const auto row_of = [&](unsigned item) { return item % eights * warps + threadIdx.x / cuda::warp_size; };
  const auto weights_of = [&](unsigned item, const void*(&w)[2]) {
    w[0] = w[1] = nullptr;
    if (item >= end || row_of(item) >= size) return;
    const int expert = plan.groups[item / eights];
    const std::size_t at = std::size_t{row_of(item)} * width * Numbers::bytes;
    w[0] = static_cast<const char*>(mlp.gate[expert]) + at;
    w[1] = static_cast<const char*>(mlp.up[expert]) + at;
  };
  if (begin >= end) return;
  cuda::weight_stream<Numbers, Aligned, 2> stream;
  const void* w[2];
  weights_of(begin, w);
  stream.begin(w, width);
  unsigned staged_group = ~0u;
  for (unsigned item = begin; item < end; ++item) {
    weights_of(item + 1, w);
    stream.follow_with(w);
    const unsigned group = item / eights, f = row_of(item);
    const int first = plan.offsets[group], count = plan.counts[group];
    float sums[2][Count] = {};
    for (unsigned at = 0; at < width; at += chunk) {
      const unsigned n = min(chunk, width - at);
      if (group != staged_group || chunk < width) {
        __syncthreads();
        for (int t = 0; t < count; ++t)
          cuda::stage_row<Aligned>(staged + t * chunk,
                                   x + std::size_t(plan.choices[first + t] / top_k) * width + at, n);
        __syncthreads();
      }
      if (f < size) stream.template dot<Count>(staged, chunk, at, n, count, sums);
    }
    staged_group = group;
    stream.advance();
    if (f >= size) continue;
    const int expert = plan.groups[group];
    const float gate_scale = mlp.gate_scales == nullptr ? 1.0f : mlp.gate_scales[expert][f],
                up_scale = mlp.up_scales == nullptr ? 1.0f : mlp.up_scales[expert][f];
#pragma unroll
    for (int t = 0; t < Count; ++t) {
      if (t >= count) break;
      const float gate = cuda::warp_sum(sums[0][t]) * gate_scale, up = cuda::warp_sum(sums[1][t]) * up_scale;
      if (threadIdx.x % cuda::warp_size == 0)
        hidden[std::size_t(first + t) * size + f] = __float2bfloat16(cuda::activate(mlp.act, gate) * up);
    }
  }
}

constexpr unsigned most_own = 4;  // rows of down in a warp

// The down half and the weighted sum over a row's experts, ascending: `own` numbers of all rows of y in each warp.
template <class Numbers, bool Aligned, int Count>
__global__ void __launch_bounds__(threads, blocks_at_once)
    down(const std::int32_t* experts, const __grid_constant__ device_experts mlp, const __nv_bfloat16* hidden,
         const float* weights, float* y, unsigned width, unsigned rows, unsigned pairs, unsigned top_k,
         unsigned own, unsigned chunk) {
  extern __shared__ __align__(16) __nv_bfloat16 staged[];
  __shared__ few_plan plan;
  cuda::wait_for_inputs();
  make_plan(plan, experts, pairs);
  const unsigned first = (blockIdx.x * warps + threadIdx.x / cuda::warp_size) * own;
  const auto size = static_cast<unsigned>(mlp.hidden), items = plan.group_count * own;
  const auto weights_of = [&](unsigned item, const void*(&w)[1]) {
    w[0] = nullptr;
    if (item >= items || first + item % own >= width) return;
    w[0] = static_cast<const char*>(mlp.down[plan.groups[item / own]]) +
           std::size_t{first + item % own} * size * Numbers::bytes;
  };
  cuda::weight_stream<Numbers, Aligned, 1, 16> stream;
  const void* w[1];
  weights_of(0, w);
  stream.begin(w, size);
  float total[most_own][Count] = {};
  for (unsigned item = 0; item < items; ++item) {
    weights_of(item + 1, w);
    stream.follow_with(w);
    const unsigned group = item / own, r = item % own;
    const int begin = plan.offsets[group], count = plan.counts[group];
    float sums[1][Count] = {};
    for (unsigned at = 0; at < size; at += chunk) {
      const unsigned n = min(chunk, size - at);
      if (r == 0 || chunk < size) {
        __syncthreads();
        for (int t = 0; t < count; ++t)
          cuda::stage_row<Aligned>(staged + t * chunk, hidden + std::size_t(begin + t) * size + at, n);
        __syncthreads();
      }
      if (first + r < width) stream.template dot<Count>(staged, chunk, at, n, count, sums);
    }
    stream.advance();
    if (first + r >= width) continue;
    const float scale = mlp.down_scales == nullptr ? 1.0f : mlp.down_scales[plan.groups[group]][first + r];
#pragma unroll
    for (int t = 0; t < Count; ++t) {
      if (t >= count) break;
      const int choice = plan.choices[begin + t];
      const float share = weights[choice] * (cuda::warp_sum(sums[0][t]) * scale);
#pragma unroll
      for (unsigned i = 0; i < most_own; ++i)
#pragma unroll
        for (int c = 0; c < Count; ++c)
          if (i == r && c == choice / static_cast<int>(top_k)) total[i][c] += share;
    }
  }
  if (threadIdx.x % cuda::warp_size != 0) return;
#pragma unroll
  for (unsigned i = 0; i < most_own; ++i)
#pragma unroll
    for (int c = 0; c < Count; ++c)
      if (i < own && c < static_cast<int>(rows) && first + i < width)
        y[std::size_t(c) * width + first + i] = total[i][c];
}

template <class Numbers, bool Aligned, int Count>
void launch(cudaStream_t stream, device_floats y, device_inputs x, const float* weights,
            device_rows<const std::int32_t> experts, const device_experts& mlp, __nv_bfloat16* hidden,
            const device_limits& limits) {
  const auto width = static_cast<unsigned>(x.width), rows = static_cast<unsigned>(x.rows),
             top_k = static_cast<unsigned>(experts.width), pairs = rows * top_k;
  const auto at_once = static_cast<unsigned>(limits.processors) * blocks_at_once;
  const auto most = static_cast<unsigned>(std::min<std::size_t>(mlp.experts, pairs)) *
                    ((static_cast<unsigned>(mlp.hidden) + warps - 1) / warps);
  unsigned chunk = cuda::chunk_numbers(width, Count);
  cuda::launch_behind(gate_up<Numbers, Aligned, Count>, std::min(most, at_once), threads,
                      cuda::chunk_bytes(chunk, Count), stream, experts.data, mlp, x.data, hidden, width,
                      pairs, top_k, chunk);
  chunk = cuda::chunk_numbers(mlp.hidden, Count);
  const unsigned own = std::min(most_own, (width + at_once * warps - 1) / (at_once * warps));
  cuda::launch_behind(down<Numbers, Aligned, Count>, (width + own * warps - 1) / (own * warps), threads,
                      cuda::chunk_bytes(chunk, Count), stream, experts.data, mlp, hidden, weights, y.data,
                      width, rows, pairs, top_k, own, chunk);
}

}  // namespace

void experts_few(cudaStream_t stream, device_floats y, device_inputs x, const float* weights,
                 device_rows<const std::int32_t> experts, const device_experts& mlp, __nv_bfloat16* hidden,
                 const device_limits& limits) {
  const auto go = [&]<class Numbers, bool Aligned>() {
    const auto call = [&](auto function) { function(stream, y, x, weights, experts, mlp, hidden, limits); };
    if (x.rows == 1) return call(launch<Numbers, Aligned, 1>);
    if (x.rows == 2) return call(launch<Numbers, Aligned, 2>);
    call(launch<Numbers, Aligned, 4>);
  };
  const bool int8 = mlp.gate_scales != nullptr;
  const std::size_t load = int8 ? 16 : 8;
  const bool aligned = x.width % load == 0 && mlp.hidden % load == 0;
  if (int8 && aligned) return go.template operator()<cuda::int8_numbers, true>();
  if (int8) return go.template operator()<cuda::int8_numbers, false>();
  if (aligned) return go.template operator()<cuda::bf16_numbers, true>();
  go.template operator()<cuda::bf16_numbers, false>();
}

}  // namespace troupe::ops
