// What the CUDA versions of the ops see: views of memory of the current device. No owner, no host memory.
//
// Activations are f32 in memory; what enters a matrix product is rounded to bf16 first, in every version of a product
// alike, and accumulated in f32. Matrices are bf16 (or int8 with a scale per row), vectors f32: whatever the checkpoint
// stores is converted while it is loaded.
//
// Every function launches on `stream` and returns at once. A launch that the driver refuses is left to cudaGetLastError(),
// which whoever runs the ops asks behind each of them. Functions whose grid depends on their arguments alone may be
// captured into a graph.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace troupe::ops {

// [rows, width], row-major without gaps, aligned to 64 bytes.
template <class T>
struct device_rows {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t width = 0;
};
using device_floats = device_rows<float>;
using device_inputs = device_rows<const float>;

// [rows, columns] as bf16, or as int8 with one f32 scale per row: value = scales[row] · number.
struct device_matrix {
  const void* data = nullptr;     // aligned to 16 bytes
  const float* scales = nullptr;  // null = bf16
  std::size_t rows = 0;
  std::size_t columns = 0;

  bool int8() const { return scales != nullptr; }
};

// Matrices of one size behind each other in memory: plane i begins at data + i · stride bytes. Null = they are anywhere.
struct device_stack {
  const void* data = nullptr;  // aligned to 16 bytes
  std::size_t stride = 0;      // a multiple of 16
};

// Of the device at hand; read once.
struct device_limits {
  int processors = 0;            // multiprocessors
  std::size_t block_shared = 0;  // bytes of shared memory that one block may have
};

}  // namespace troupe::ops
