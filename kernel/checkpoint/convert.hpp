// Numbers as checkpoints store them, to float.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "troupe/schemas/program_generated.h"

namespace troupe::checkpoint {

inline float f32_from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

inline float f32_from_f16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1f)
    return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));  // infinite or not a number
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // zero or subnormal
  return sign != 0 ? -magnitude : magnitude;
}

// One element at `data`, whatever its alignment. dtype is f32, bf16 or f16.
inline float load_f32(const std::byte* data, program::DType dtype) {
  if (dtype == program::DType::f32) {
    float value = 0;
    std::memcpy(&value, data, sizeof value);
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, data, sizeof bits);
  return dtype == program::DType::bf16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

}  // namespace troupe::checkpoint
