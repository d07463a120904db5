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
    for (int i = 0; i < 16; ++i)
      out[i] = static_cast<float>(static_cast<std::int8_t>(words[i / 4] >> (8 * (i % 4))));
  }
};

// Dot products of `Rows` rows of w with `Count` staged rows of x over one chunk of n numbers: sums[r][t] += w[r] · x[t], each lane
// its own numbers, in ascending order. x: bf16 in shared memory, rows `stride` numbers apart. `n` a multiple of Numbers::step if
// Aligned. Which numbers a lane takes depends on their place in the row alone, if chunks begin at multiples of 32 · step.
template <class Numbers, bool Aligned, int Rows, int Count>
__device__ inline void dot_chunk(const void* const (&w)[Rows], const __nv_bfloat16* x, unsigned stride,
                                 unsigned n, int count, float (&sums)[Rows][Count]) {
  constexpr int step = Numbers::step;
  constexpr int depth = Rows >= 4 ? 2 : 4;  // loads in flight for each row
  const unsigned lane = threadIdx.x % warp_size;
  for (unsigned base = 0; base < n; base += warp_size * step * depth) {
    uint4 loaded[depth][Rows];
    if constexpr (Aligned) {
#pragma unroll
      for (int d = 0; d < depth; ++d) {
        const unsigned at = base + (d * warp_size + lane) * step;
#pragma unroll
        for (int r = 0; r < Rows; ++r)
          loaded[d][r] = at < n ? load_once(static_cast<const char*>(w[r]) + std::size_t{at} * Numbers::bytes)
                                : uint4{0, 0, 0, 0};
      }
    }
#pragma unroll
    for (int d = 0; d < depth; ++d) {
      const unsigned at = base + (d * warp_size + lane) * step;
      if (at >= n) break;
      float values[Rows][step];
#pragma unroll
      for (int r = 0; r < Rows; ++r) {
        if constexpr (Aligned) {
          Numbers::expand(loaded[d][r], values[r]);
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
          bf16_numbers::expand(*reinterpret_cast<const uint4*>(x + t * stride + at + 8 * half), numbers);
#pragma unroll
          for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int r = 0; r < Rows; ++r) sums[r][t] = fmaf(values[r][8 * half + i], numbers[i], sums[r][t]);
        }
      }
    }
  }
}

// Numbers of x that a block stages at a time for that many rows: 32 KiB, and a multiple of every lane pattern.
__host__ __device__ constexpr unsigned chunk_numbers(int rows) {
  return 16384u / rows;
}

// One row's numbers [first, first + n) to shared memory as bf16, by the whole block; the rest up to a multiple of 16 is zero.
__device__ inline void stage_row(__nv_bfloat16* to, const float* from, unsigned n) {
  for (unsigned i = threadIdx.x; i < (n + 15) / 16 * 16; i += blockDim.x)
    to[i] = i < n ? __float2bfloat16(from[i]) : __float2bfloat16(0.0f);
}
__device__ inline void stage_row(__nv_bfloat16* to, const __nv_bfloat16* from, unsigned n) {
  for (unsigned i = threadIdx.x; i < (n + 15) / 16 * 16; i += blockDim.x)
    to[i] = i < n ? from[i] : __float2bfloat16(0.0f);
}

}  // namespace troupe::ops::cuda
