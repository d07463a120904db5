// Views of the numbers that ops work on. They own nothing; whoever runs the op keeps the memory alive during
// the call.
#pragma once

#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "troupe/schemas/program_generated.h"

namespace troupe::ops {

using program::DType;

// [rows, width], row-major without gaps, aligned to its element.
template <class T>
struct rows_of {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t width = 0;

  T* row(std::size_t i) const { return data + i * width; }
  operator rows_of<const T>() const requires(!std::is_const_v<T>) { return {data, rows, width}; }
};
using activations = rows_of<float>;
using const_activations = rows_of<const float>;
using indices = rows_of<std::int32_t>;
using const_indices = rows_of<const std::int32_t>;

// [rows, columns] as stored in a checkpoint: row-major, little endian, bf16, f16 or f32, at any address.
struct weight_matrix {
  DType dtype = DType::none;
  const std::byte* data = nullptr;
  std::size_t rows = 0;
  std::size_t columns = 0;

  std::size_t element_bytes() const { return dtype == DType::f32 ? 4 : 2; }
  const std::byte* row(std::size_t i) const { return data + i * columns * element_bytes(); }
};

// An op's first line: a shape that does not fit is a bug of the backend, never of a request.
template <class T>
void check_shape([[maybe_unused]] const rows_of<T>& x, [[maybe_unused]] std::size_t rows,
                 [[maybe_unused]] std::size_t width) {
  assert(x.rows == rows && x.width == width);
}

inline float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

// IEEE 754 binary16, subnormal numbers, infinities and NaN included.
inline float f16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1f;
  const std::uint32_t fraction = bits & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 0xff : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

// Element `i` of a stored row.
inline float load_element(DType dtype, const std::byte* row, std::size_t i) {
  if (dtype == DType::f32) {
    float value;
    std::memcpy(&value, row + i * 4, 4);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, row + i * 2, 2);
  return dtype == DType::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

}  // namespace troupe::ops
