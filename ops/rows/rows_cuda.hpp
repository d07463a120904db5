// embed, select_rows, split, concat on a CUDA device; see rows.hpp.
#pragma once

#include <span>

#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

// tokens [T] on the device; a negative id gives a row of zeros (rows that fill up a captured batch). table [V, D] bf16.
void embed_cuda(cudaStream_t stream, device_floats y, const std::int32_t* tokens, const device_matrix& table);

// rows [R] on the device
void select_rows_cuda(cudaStream_t stream, device_floats y, device_inputs x, const std::uint32_t* rows);

void split_cuda(cudaStream_t stream, std::span<const device_floats> y, device_inputs x);
void concat_cuda(cudaStream_t stream, device_floats y, std::span<const device_inputs> x);

}  // namespace troupe::ops
