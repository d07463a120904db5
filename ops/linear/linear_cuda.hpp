// linear on a CUDA device; see linear.hpp. y [T, M] = bf16(x) [T, N] · wᵀ + bias, accumulated in f32.
//
// Four versions; which one runs depends on T and the shapes alone:
//   linear_few    T <= few_rows: each weight is read once, past the cache, for all rows. A row's result depends on x's row and
//                 w's row alone.
//   linear_tiles  tensor cores (mma.sync, compute capability 8.0 and later), sums in ascending n: a row's result depends
//                 on x's row and w's row alone. Needs N to be a multiple of 8 (bf16) or 64 (int8).
//   linear_joined int8 alone, Hopper's warpgroups, up to joined_rows rows of all maps in one launch; a row's result depends on x's
//                 row and the maps alone. Needs N to be a multiple of 64.
//   cuBLASLt      ops/backends/cuda/gemm.hpp: the order of sums is the library's and may change with T.
#pragma once

#include <span>

#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

constexpr std::size_t few_rows = 4;      // of linear_few
constexpr std::size_t linear_parts = 8;  // linear maps of one x in one launch

struct device_linear {
  device_matrix weight;         // [M, N]
  const float* bias = nullptr;  // [M] f32; null = none
  device_floats y;              // [T, M]
};

// At most linear_parts maps, at most few_rows rows.
void linear_few_cuda(cudaStream_t stream, device_inputs x, std::span<const device_linear> maps,
                     const device_limits& limits);

// The logits of a router: x stays f32, so that the choice of experts does not hang on a rounding. Any T; a row's result depends
// on x's row and w's row alone. w bf16.
void linear_exact_cuda(cudaStream_t stream, device_inputs x, const device_linear& map);

// y = bf16(x); for products with int8 in the order that they want within each 64 of a row (N a multiple of 64).
void to_bf16_cuda(cudaStream_t stream, __nv_bfloat16* y, device_inputs x, bool for_int8 = false);

// x [T, N] bf16, aligned to 16 bytes, for the kind of map.weight
void linear_tiles_cuda(cudaStream_t stream, device_rows<const __nv_bfloat16> x, const device_linear& map,
                       const device_limits& limits);
bool linear_tiles_fit(const device_matrix& weight);

// At most linear_parts int8 maps; x as linear_tiles_cuda wants it, at most joined_rows rows.
constexpr std::size_t joined_rows = 128;
bool linear_joined_serves(std::size_t rows, std::size_t columns);
void linear_joined_cuda(cudaStream_t stream, device_rows<const __nv_bfloat16> x,
                        std::span<const device_linear> maps, const device_limits& limits);

// y += bias, row by row: behind a version that does not add it itself.
void add_bias_cuda(cudaStream_t stream, device_floats y, const float* bias);

}  // namespace troupe::ops
