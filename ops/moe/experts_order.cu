#include <climits>

#include "ops/device/cuda_launch.cuh"
#include "ops/device/cuda_math.cuh"
#include "ops/linear/warp_multiply.cuh"
#include "ops/moe/experts_order.hpp"

namespace troupe::ops {
namespace {

constexpr unsigned plan_threads = 256;

// One block for each expert: counts what is chosen, then lists its own pairs in ascending order.
__global__ void sort_pairs(expert_order order, const std::int32_t* experts, unsigned pairs, unsigned top_k,
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

// Eight numbers of a row of x as bf16, from the n-th on.
template <bool Permuted>
__device__ void gather_eight(__nv_bfloat16* to, const float* from, unsigned n) {
  __align__(16) __nv_bfloat16 out[8];
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) out[i] = __float2bfloat16(from[Permuted ? cuda::number_at(n + i) : n + i]);
  *reinterpret_cast<uint4*>(to + n) = *reinterpret_cast<const uint4*>(out);
}

// The pairs' rows of x as bf16, in the plan's order; eight numbers for each thread.
template <bool Permuted>
__global__ void gather(expert_order order, __nv_bfloat16* to, const float* x, unsigned width) {
  cuda::wait_for_inputs();
  const int last = *order.group_count - 1;
  if (last < 0 || static_cast<int>(blockIdx.x) >= order.offsets[last] + order.counts[last]) return;
  const unsigned n = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
  if (n < width)
    gather_eight<Permuted>(to + std::size_t{blockIdx.x} * width,
                           x + std::size_t(order.rows[blockIdx.x]) * width, n);
}

// Both for at most plan_threads pairs and experts: block p finds the place of pair p and brings its row there, permuted.
__global__ void __launch_bounds__(plan_threads)
    sort_and_gather(expert_order order, __nv_bfloat16* to, const float* x, unsigned width,
                    const std::int32_t* experts, unsigned pairs, unsigned top_k, unsigned expert_count) {
  __shared__ int present[plan_threads];
  const unsigned thread = threadIdx.x, pair = blockIdx.x;
  present[thread] = 0;
  cuda::wait_for_inputs();
  __syncthreads();
  const int theirs = thread < pairs ? experts[thread] : -1, own = experts[pair];
  if (theirs >= 0) present[theirs] = 1;
  const int less = __syncthreads_count(theirs >= 0 && theirs < own);
  const int before = __syncthreads_count(thread < pair && theirs == own);
  const int same = __syncthreads_count(theirs == own);
  const int group = __syncthreads_count(static_cast<int>(thread) < own && present[thread]);
  const int groups = __syncthreads_count(thread < expert_count && present[thread]);
  const int place = less + before;
  if (thread == 0 && blockIdx.y == 0) {
    if (pair == 0) *order.group_count = groups;
    if (own >= 0) {
      order.rows[place] = static_cast<int>(pair / top_k);
      order.choices[place] = static_cast<int>(pair);
      order.places[pair] = place;
      if (before == 0) {
        order.groups[group] = own;
        order.offsets[group] = less;
        order.counts[group] = same;
      }
    }
  }
  const unsigned n = (blockIdx.y * plan_threads + thread) * 8;
  if (own >= 0 && n < width)
    gather_eight<true>(to + std::size_t(place) * width, x + std::size_t{pair / top_k} * width, n);
}

// y[t] = sum over the row's places, ascending: that is by expert.
__global__ void combine(expert_order order, const float* out, unsigned cuts, const float* weights,
                        const std::int32_t* experts, float* y, unsigned width, unsigned top_k) {
  cuda::wait_for_inputs();
  const unsigned d = blockIdx.x * blockDim.x + threadIdx.x;
  if (d >= width) return;
  const std::size_t first = std::size_t{blockIdx.y} * top_k, stride = std::size_t{gridDim.y} * top_k * width;
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
    const float* from = out + std::size_t(next) * width + d;
    float own = from[0];
    float parts[most_cuts];
#pragma unroll
    for (unsigned cut = 1; cut < most_cuts; ++cut) parts[cut] = cut < cuts ? from[cut * stride] : 0.0f;
#pragma unroll
    for (unsigned cut = 1; cut < most_cuts; ++cut)
      if (cut < cuts) own += parts[cut];
    sum += weights[first + choice] * own;
    last = next;
  }
  y[std::size_t{blockIdx.y} * width + d] = sum;
}

dim3 grid_of(std::size_t pairs, std::size_t width) {
  constexpr std::size_t of_block = plan_threads * 8;
  return {static_cast<unsigned>(pairs), static_cast<unsigned>((width + of_block - 1) / of_block)};
}

}  // namespace

void sort_pairs_cuda(cudaStream_t stream, const expert_order& order, device_rows<const std::int32_t> experts,
                     std::size_t expert_count) {
  cuda::launch_behind(sort_pairs, static_cast<unsigned>(expert_count), plan_threads,
                      expert_count * sizeof(int), stream, order, experts.data,
                      static_cast<unsigned>(experts.rows * experts.width),
                      static_cast<unsigned>(experts.width), static_cast<unsigned>(expert_count));
}

void gather_cuda(cudaStream_t stream, const expert_order& order, __nv_bfloat16* to, device_inputs x,
                 std::size_t pairs, bool for_int8) {
  cuda::launch_behind(for_int8 ? gather<true> : gather<false>, grid_of(pairs, x.width), plan_threads, 0,
                      stream, order, to, x.data, static_cast<unsigned>(x.width));
}

void sort_and_gather_cuda(cudaStream_t stream, const expert_order& order, __nv_bfloat16* to, device_inputs x,
                          device_rows<const std::int32_t> experts, std::size_t expert_count) {
  const std::size_t pairs = experts.rows * experts.width;
  if (pairs > plan_threads || expert_count > plan_threads) {
    sort_pairs_cuda(stream, order, experts, expert_count);
    return gather_cuda(stream, order, to, x, pairs, true);
  }
  cuda::launch_behind(sort_and_gather, grid_of(pairs, x.width), plan_threads, 0, stream, order, to, x.data,
                      static_cast<unsigned>(x.width), experts.data, static_cast<unsigned>(pairs),
                      static_cast<unsigned>(experts.width), static_cast<unsigned>(expert_count));
}

void combine_cuda(cudaStream_t stream, device_floats y, const expert_order& order,
                  const pair_results& results, device_inputs weights,
                  device_rows<const std::int32_t> experts) {
  const dim3 grid(static_cast<unsigned>((y.width + 255) / 256), static_cast<unsigned>(y.rows));
  cuda::launch_behind(combine, grid, 256, 0, stream, order, results.data, results.cuts, weights.data,
                      experts.data, y.data, static_cast<unsigned>(y.width),
                      static_cast<unsigned>(experts.width));
}

}  // namespace troupe::ops
