// The pairs (row, choice) of a step in the order of their experts: sorting, bringing rows there, adding results up.
#pragma once

#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

// Pairs (row, choice) sorted by expert. P = T · k; group g is the g-th expert that anybody chose.
struct expert_order {
  std::int32_t* group_count;  // [1]
  std::int32_t* groups;       // [E] expert
  std::int32_t* offsets;      // [E]
  std::int32_t* counts;       // [E]
  std::int32_t* rows;         // [P] row of x
  std::int32_t* choices;      // [P] row · k + choice
  std::int32_t* places;       // [P] of row · k + choice: its place in the order
};

constexpr unsigned most_cuts = 4;

// Results of pairs in that order: [cuts, P, D], a pair's being the sum of its cuts', in ascending order.
struct pair_results {
  const float* data;
  unsigned cuts;
};

// experts [T, k], below `expert_count`; -1 = none.
void sort_pairs_cuda(cudaStream_t stream, const expert_order& order, device_rows<const std::int32_t> experts,
                     std::size_t expert_count);

// to [P, D]: the pairs' rows of x as bf16, in the order; for products with int8 permuted (warp_multiply.cuh). D a multiple of 8.
void gather_cuda(cudaStream_t stream, const expert_order& order, __nv_bfloat16* to, device_inputs x,
                 std::size_t pairs, bool for_int8);

// Both, for int8; one launch for few pairs.
void sort_and_gather_cuda(cudaStream_t stream, const expert_order& order, __nv_bfloat16* to, device_inputs x,
                          device_rows<const std::int32_t> experts, std::size_t expert_count);

// y[t] = sum over the row's experts, ascending, of weights · result.
void combine_cuda(cudaStream_t stream, device_floats y, const expert_order& order,
                  const pair_results& results, device_inputs weights,
                  device_rows<const std::int32_t> experts);

}  // namespace troupe::ops
