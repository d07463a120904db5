// Functions that a compiler can turn into vector code: no calls, no branches, no tables. Each number is computed by the same
// operations in a vector as alone (modules are built with -ffp-contract=off), so that a result does not depend on where a loop is cut.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

// Compiled for several instruction sets, one of which is taken when the library is loaded. Sanitizers' run times may not be up
// by then.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__SANITIZE_ADDRESS__)
#define VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTOR_CLONES
#endif

namespace jamba {

// Channels that one part of the work holds in registers and the nearest cache.
inline constexpr std::size_t channel_block = 128;
constexpr std::size_t blocks_of(std::size_t channels) {
  return (channels + channel_block - 1) / channel_block;
}

// e^x within 2 units in the last place for x in [-87, 88]; the value at the nearer end outside. x = n ln 2 + r, |r| <= ln 2 / 2;
// e^r by a polynomial (the coefficients of Cephes' expf).
inline float exp_of(float x) {
  constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the lowest bits
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + round;
  const float n = shifted - round;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float mantissa = p * (r * r) + r + 1.0f;
  return mantissa * std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u);
}

inline float silu(float x) {
  return x / (1.0f + exp_of(-x));
}

// log(1 + e^x). log(1 + e) = 2 atanh(s) with s = e / (2 + e) <= 1/3, whose series ends soon.
inline float softplus(float x) {
  const float e = exp_of(x < 0.0f ? x : -x);
  const float s = e / (2.0f + e);
  const float z = s * s;
  float p = 1.0f / 17;
  p = p * z + 1.0f / 15;
  p = p * z + 1.0f / 13;
  p = p * z + 1.0f / 11;
  p = p * z + 1.0f / 9;
  p = p * z + 1.0f / 7;
  p = p * z + 1.0f / 5;
  p = p * z + 1.0f / 3;
  return (x > 0.0f ? x : 0.0f) + 2.0f * (s + s * (z * p));
}

}  // namespace jamba
