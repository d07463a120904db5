// Boxes of a matrix that the device's copy engine fetches into shared memory (compute capability 9.0).
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>

namespace troupe::ops::cuda {

// Whether the device at hand has warpgroup products and this library has code for them. Asked of the driver once.
bool warpgroups_serve();

// Boxes of 64 columns by `box_rows` (at most 256) of a row-major matrix [rows, columns]; what lies beyond it is zero. bf16 comes with
// the 128-byte swizzle, int8 without one. `data`: aligned to 16 bytes, as are rows. False = the driver refuses.
bool make_map(CUtensorMap& map, const void* data, bool int8, std::size_t rows, std::size_t columns,
              unsigned box_rows);

// Boxes of 128 columns by `box_rows` of int8 planes [rows, columns], `stride` bytes apart, with the 128-byte swizzle.
bool make_plane_map(CUtensorMap& map, const void* data, std::size_t rows, std::size_t columns,
                    std::size_t planes, std::size_t stride, unsigned box_rows);

// On the device: to[i] = `model` for planes[i], then, if there are any, for the up_planes; `count` of each. All arrays on the device.
void place_maps(cudaStream_t stream, CUtensorMap* to, const CUtensorMap& model, const void* const* planes,
                const void* const* up_planes, unsigned count);

}  // namespace troupe::ops::cuda
