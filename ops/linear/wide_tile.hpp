// Matrix products of many rows on Hopper's warpgroups, for experts and linear:   c [columns, M] = x [columns, K] · aᵀ
//
//   a: rows of weights [M, K], bf16 or int8 (which becomes bf16 exactly in registers); x: bf16; c: f32, or, for the gated form,
//   act(x · gateᵀ) * (x · upᵀ) as bf16.
//
// One block per processor: a warp has the copy engine fetch tiles some stages ahead, two warpgroups multiply, 256 rows of weights
// (gated: 128 of each matrix) by 128 columns. Tiles of one group follow each other by columns first, so that blocks side by side share
// weights. A column's numbers depend on that column of x alone.
//
// With int8 the numbers of x stand in another order within each 64 of a row: `permuted` (matmul_tile.cuh). Products of 64 numbers of k at a time; which
// number is added where is the hardware's affair.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/activation/activation_kind.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::ops::cuda {

enum class wide_form { gated, plain };

// As tile_job: group g has counts[g] columns from offsets[g] on and the weights of plane groups[g]; arrays on the device.
struct wide_job {
  const void* const* planes = nullptr;     // gated: gate
  const void* const* up_planes = nullptr;  // gated
  const float* const* scales = nullptr;    // int8: of each plane's rows; null = bf16
  const float* const* up_scales = nullptr;
  const __nv_bfloat16* x = nullptr;  // [columns of all groups, K]
  float* y = nullptr;                // plain: [columns, M]
  __nv_bfloat16* hidden = nullptr;   // gated: [columns, M]; with int8 permuted as x is
  const std::int32_t *groups = nullptr, *offsets = nullptr, *counts = nullptr, *group_count = nullptr;
  void* maps = nullptr;               // wide_map_bytes(planes), aligned to 256
  const float* own_scales = nullptr;  // of the only plane of launch_wide_int8
  unsigned plane_count = 0, m = 0, k = 0, columns = 0;
  activation act = activation::silu;

  bool int8() const { return scales != nullptr; }
};

constexpr std::size_t wide_map_bytes(std::size_t planes) {
  return planes * 2 * 128;
}

// Whether this device multiplies weights [m, k] so.
bool wide_tiles_serve(std::size_t m, std::size_t k);

// `columns`: of all groups together, at most. False = nothing was launched: the driver refuses the maps.
bool launch_wide(cudaStream_t stream, wide_form form, const wide_job& job, std::size_t columns,
                 const device_limits& limits);

// y [x.rows, weight.rows] = x · weightᵀ for one int8 matrix. False as above.
bool launch_wide_int8(cudaStream_t stream, device_floats y, device_rows<const __nv_bfloat16> x,
                      const device_matrix& weight, const device_limits& limits);

}  // namespace troupe::ops::cuda
