// Stored numbers to those that the ops use, on the device, while weights are loaded.
#pragma once

#include "kernel/checkpoint/synthetic.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::ops::cuda {

enum class stored_as { f32, bf16, f16 };

void to_bf16(cudaStream_t stream, __nv_bfloat16* to, const void* from, stored_as dtype, std::size_t count);
void to_f32(cudaStream_t stream, float* to, const void* from, stored_as dtype, std::size_t count);

// Each row [columns] on its own: scale = greatest magnitude / 127, number = value / scale, rounded to the nearest even one.
void to_int8(cudaStream_t stream, std::int8_t* to, float* scales, const void* from, stored_as dtype,
             std::size_t rows, std::size_t columns);

// Elements [first, first + count) of a plane of made-up weights. `to`: aligned to 8 bytes.
void make_up(cudaStream_t stream, __nv_bfloat16* to, const checkpoint::synthetic_numbers& of,
             std::size_t plane, std::size_t first, std::size_t count);

}  // namespace troupe::ops::cuda
