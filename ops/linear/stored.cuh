// How matrices come out of memory: 16 bytes at a time into f32. `step` numbers per load; `at` counts numbers from the row's
// start. The unaligned forms read number by number, for widths that are no multiple of a load.
#pragma once

#include "ops/device/cuda_math.cuh"

namespace troupe::ops::cuda {

struct bf16_numbers {
  static constexpr int step = 8;
  static constexpr int bytes = 2;
  __device__ static float one(const void* row, unsigned at) {
    return __bfloat162float(static_cast<const __nv_bfloat16*>(row)[at]);
  }
  __device__ static void expand(uint4 v, float (&out)[step]) {
    const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; ++i) {
      out[2 * i] = low_bf16(words[i]);
      out[2 * i + 1] = high_bf16(words[i]);
    }
  }
};

struct int8_numbers {
  static constexpr int step = 16;
  static constexpr int bytes = 1;
  __device__ static float one(const void* row, unsigned at) {
    return static_cast<float>(static_cast<const std::int8_t*>(row)[at]);
  }
  __device__ static void expand(uint4 v, float (&out)[step]) {
    const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
    // 2^23 + 128 + the number, less that: conversion instructions are slower.
#pragma unroll
    for (int i = 0; i < 16; ++i)
      out[i] =
          __uint_as_float(__byte_perm(words[i / 4] ^ 0x80808080u, 0x4b000000u, 0x7650 + i % 4)) - 8388736.0f;
  }
};

// `Rows` rows of n numbers on their way from memory, and behind them those that come next: each lane has some loads ahead of their use.
// Lane l takes loads l, l + 32, ... of each row, whatever the company. n is a multiple of Numbers::step if Aligned.
template <class Numbers, bool Aligned, int Rows, int Depth = 8>
struct weight_stream {
  static constexpr int step = Numbers::step;
  static constexpr int depth = Depth;  // loads ahead for each row, at most 16
  static constexpr unsigned turn = warp_size * step * depth;

  const char *w[Rows], *next[Rows];  // null = none
  unsigned n;
  uint4 held[depth][Rows];

  __device__ void fetch(int d, const char* const (&from)[Rows], unsigned at) {
    if constexpr (Aligned)
#pragma unroll
      for (int r = 0; r < Rows; ++r)
        held[d][r] = at < n && from[r] != nullptr ? load_once(from[r] + std::size_t{at} * Numbers::bytes)
                                                  : uint4{0, 0, 0, 0};
  }
  __device__ static unsigned place(int d) {
    return (d * warp_size + threadIdx.x % warp_size) * step;
  }

  __device__ void begin(const void* const (&rows)[Rows], unsigned numbers) {
    n = numbers;
#pragma unroll
    for (int r = 0; r < Rows; ++r) w[r] = static_cast<const char*>(rows[r]);
#pragma unroll
    for (int d = 0; d < depth; ++d) fetch(d, w, place(d));
  }
  // What comes behind the rows at hand: said before their last numbers are used.
  __device__ void follow_with(const void* const (&rows)[Rows]) {
#pragma unroll
    for (int r = 0; r < Rows; ++r) next[r] = static_cast<const char*>(rows[r]);
  }
  __device__ void advance() {
#pragma unroll
    for (int r = 0; r < Rows; ++r) w[r] = next[r];
  }

  // Numbers [first, first + size) against `Count` staged rows of x: sums[r][t] += w[r] · x[t], each lane its own numbers, ascending.
  // x: bf16 in shared memory, rows `stride` numbers apart; `first` is a multiple of `turn`.
  template <int Count>
  __device__ void dot(const __nv_bfloat16* x, unsigned stride, unsigned first, unsigned size, int count,
                      float (&sums)[Rows][Count]) {
    for (unsigned base = 0; base < size; base += turn) {
      const bool last = first + base + turn >= n;
#pragma unroll
      for (int d = 0; d < depth; ++d) {
        const unsigned own = base + place(d);
        if (own < size) multiply(x + own, stride, first + own, d, count, sums);
        if (last)
          fetch(d, next, place(d));
        else
          fetch(d, w, first + own + turn);
      }
    }
  }
  template <int Count>
  __device__ void multiply(const __nv_bfloat16* x, unsigned stride, unsigned at, int d, int count,
                           float (&sums)[Rows][Count]) {
    float values[Rows][step];
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
      if constexpr (Aligned) {
        Numbers::expand(held[d][r], values[r]);
      } else {
        for (int i = 0; i < step; ++i) values[r][i] = at + i < n ? Numbers::one(w[r], at + i) : 0.0f;
      }
    }
#pragma unroll
    for (int t = 0; t < Count; ++t) {
      if (t >= count) break;
#pragma unroll
      for (int half = 0; half < step / 8; ++half) {
        float numbers[8];
        bf16_numbers::expand(*reinterpret_cast<const uint4*>(x + t * stride + 8 * half), numbers);
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
          for (int r = 0; r < Rows; ++r) sums[r][t] = fmaf(values[r][8 * half + i], numbers[i], sums[r][t]);
      }
    }
  }
};

// Numbers of x that a block stages at a time for `rows` rows of n: all of them, if two blocks then share a processor; else a multiple
// of every stream's turn.
inline unsigned chunk_numbers(std::size_t n, int rows) {
  constexpr std::size_t turn = 8192, most = (std::size_t{96} << 10) / sizeof(__nv_bfloat16);
  const std::size_t whole = (n + 15) / 16 * 16, part = most / rows / turn * turn;
  return static_cast<unsigned>(whole <= most / rows ? whole : part);
}
inline std::size_t chunk_bytes(unsigned chunk, int rows) {
  return std::size_t{chunk} * rows * sizeof(__nv_bfloat16);
}
constexpr std::size_t most_chunk_bytes = std::size_t{96} << 10;

// One row's numbers [first, first + n) to shared memory as bf16, by the whole block. Aligned: in eights; else the rest up to a multiple
// of 16 is zero.
__device__ inline uint4 eight_of(const float* from) {
  const float4 a = *reinterpret_cast<const float4*>(from), b = *reinterpret_cast<const float4*>(from + 4);
  __nv_bfloat162 pairs[4] = {__floats2bfloat162_rn(a.x, a.y), __floats2bfloat162_rn(a.z, a.w),
                             __floats2bfloat162_rn(b.x, b.y), __floats2bfloat162_rn(b.z, b.w)};
  return *reinterpret_cast<const uint4*>(pairs);
}
__device__ inline uint4 eight_of(const __nv_bfloat16* from) {
  return *reinterpret_cast<const uint4*>(from);
}
template <bool Aligned, class Number>
__device__ inline void stage_row(__nv_bfloat16* to, const Number* from, unsigned n) {
  if constexpr (Aligned) {
#pragma unroll 4
    for (unsigned i = threadIdx.x * 8; i < n; i += blockDim.x * 8)
      *reinterpret_cast<uint4*>(to + i) = eight_of(from + i);
  } else {
    for (unsigned i = threadIdx.x; i < (n + 15) / 16 * 16; i += blockDim.x)
      to[i] = i < n ? __nv_bfloat16(from[i]) : __float2bfloat16(0.0f);
  }
}

}  // namespace troupe::ops::cuda
