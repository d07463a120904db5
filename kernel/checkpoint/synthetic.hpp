// Made-up weights: the same numbers for the same seed and weight on every device, made where they are wanted. For benchmarks of models
// in their published size: no files.
//
// Also compiled for CUDA; includes nothing of Troupe's.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define TROUPE_EVERYWHERE __host__ __device__
#else
#define TROUPE_EVERYWHERE
#endif

namespace troupe::checkpoint {

// The numbers of a weight: bf16, evenly spread over centre - reach to centre + reach.
struct synthetic_numbers {
  std::uint64_t key = 0;  // of plane 0; plane p has key + p
  float centre = 0, reach = 1;
};

// Four 16-bit numbers of a plane: those of the elements 4 · group to 4 · group + 3. A finaliser of 64 bits over a counter.
TROUPE_EVERYWHERE inline std::uint64_t synthetic_bits(std::uint64_t plane_key, std::uint64_t group) {
  std::uint64_t x = plane_key * 0x9e3779b97f4a7c15u + group;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
  return x ^ (x >> 32);
}

// The bf16 number, as its bits, that 16 random bits stand for. Each operation rounds once, on every device.
TROUPE_EVERYWHERE inline std::uint16_t synthetic_bf16(const synthetic_numbers& of, std::uint16_t random) {
  const float even = static_cast<float>(random) - 32767.5f, unit = of.reach * (1.0f / 32768);
#ifdef __CUDA_ARCH__
  const std::uint32_t bits = __float_as_uint(__fadd_rn(of.centre, __fmul_rn(even, unit)));
#else
  const float scaled = even * unit;
  const float value = of.centre + scaled;
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
#endif
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Elements [first, first + count) of plane `plane`, on the host.
inline void synthesize(const synthetic_numbers& of, std::uint64_t plane, std::uint64_t first,
                       std::uint64_t count, std::uint16_t* out) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t at = first + i, four = synthetic_bits(of.key + plane, at / 4);
    out[i] = synthetic_bf16(of, static_cast<std::uint16_t>(four >> (16 * (at % 4))));
  }
}

}  // namespace troupe::checkpoint
