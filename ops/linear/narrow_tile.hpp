// Matrix products of few rows with int8 weights on Hopper's warpgroups, as fast as the weights come from memory:
//
//   c [columns, M] = x [columns, K] · aᵀ       a: [M, K] int8, which becomes bf16 exactly in registers; x: bf16, its numbers in
//   another order within each 64 of a row (`permuted`, warp_multiply.cuh); c: f32, or, for the gated form,
//   act(x · gateᵀ) * (x · upᵀ) as bf16, permuted again.
//
// A block makes 128 rows of weights (gated: 64 of each matrix) by 8, 16, 24, 32, 64 or 128 columns: a warp has the copy engine fetch 128
// numbers of k at a time, some stages ahead (of linear maps before the inputs are there), two warpgroups multiply. Linear maps of too few rows to
// occupy the device are cut along k: a cluster of blocks shares them and adds its sums in the order of its blocks. Where is cut follows from the
// maps alone (for groups the caller says it), and a column's numbers depend on that column of x alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ops/activation/activation_kind.hpp"
#include "ops/device/cuda_view.hpp"
#include "ops/linear/linear_cuda.hpp"

namespace troupe::ops::cuda {

constexpr std::size_t narrow_columns = 128;  // of x, at most, in a launch of linear maps
constexpr std::size_t narrow_groups = 64;    // of experts

enum class narrow_form { linear, gated, grouped };

// Work of several groups, as wide_job: group g has counts[g] columns from offsets[g] on and the weights of plane groups[g]; arrays on
// the device.
struct narrow_job {
  device_stack planes;     // gated: gate
  device_stack up_planes;  // gated
  const float* const* scales = nullptr;
  const float* const* up_scales = nullptr;
  const __nv_bfloat16* x = nullptr;  // [columns of all groups, K]
  float* y = nullptr;                // grouped: [columns, M]
  __nv_bfloat16* hidden = nullptr;   // gated: [columns, M]
  const std::int32_t *groups = nullptr, *offsets = nullptr, *counts = nullptr, *group_count = nullptr;
  unsigned plane_count = 0, m = 0, k = 0;
  unsigned cuts = 1;           // grouped: of k; each cut's sums are another y, to be added in their order
  std::size_t cut_stride = 0;  // numbers from y to y
  activation act = activation::silu;
};

// Whether this device multiplies rows of k numbers so.
bool narrow_tiles_serve(std::size_t k);

// `columns`: of all groups together, at most; `groups`: at most narrow_groups. False = nothing was launched: the driver refuses the maps.
bool launch_narrow(cudaStream_t stream, narrow_form form, const narrow_job& job, std::size_t groups,
                   std::size_t columns, const device_limits& limits);

// At most linear_parts int8 maps of one x of at most narrow_columns rows, in one launch. False as above.
bool launch_narrow(cudaStream_t stream, device_rows<const __nv_bfloat16> x,
                   std::span<const device_linear> maps, const device_limits& limits);

}  // namespace troupe::ops::cuda
