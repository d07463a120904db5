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

// `Rows` rows of n numbers on their way from memory: each lane has some loads ahead of its use. Lane l takes loads l, l + 32, ... of each
// row, whatever the company. n is a multiple of Numbers::step if Aligned.
template <class Numbers, bool Aligned, int Rows>
struct weight_stream {
  static constexpr int step = Numbers::step;
  static constexpr int depth = Rows >= 4 ? 4 : 8;  // loads ahead for each row
  static constexpr unsigned turn = warp_size * step * depth;

  const char* w[Rows];
  unsigned n;
  uint4 held[depth][Rows];

  __device__ void fetch(int d, unsigned at) {
    if constexpr (Aligned)
#pragma unroll
      for (int r = 0; r < Rows; ++r)
        held[d][r] = at < n ? load_once(w[r] + std::size_t{at} * Numbers::bytes) : uint4{0, 0, 0, 0};
  }
  __device__ void begin(const void* const (&rows)[Rows], unsigned numbers) {
    n = numbers;
#pragma unroll
    for (int r = 0; r < Rows; ++r) w[r] = static_cast<const char*>(rows[r]);
#pragma unroll
    for (int d = 0; d < depth; ++d) fetch(d, (d * warp_size + threadIdx.x % warp_size) * step);
  }

  // Numbers [first, first + size) against `Count` staged rows of x: sums[r][t] += w[r] · x[t], each lane its own numbers, ascending.
  // x: bf16 in shared memory, rows `stride` numbers apart; `first` is a multiple of `turn`.
  template <int Count>
  __device__ void dot(const __nv_bfloat16* x, unsigned stride, unsigned first, unsigned size, int count,
                      float (&sums)[Rows][Count]) {
    for (unsigned base = 0; base < size; base += turn) {
#pragma unroll
      for (int d = 0; d < depth; ++d) {
        const unsigned own = base + (d * warp_size + threadIdx.x % warp_size) * step;
        if (own < size) multiply(x + own, stride, first + own, d, count, sums);
        fetch(d, first + own + turn);
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

// Numbers of x that a block stages at a time for that many rows: 32 KiB, and a multiple of every stream's turn.
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
