#include "ops/device/cuda_launch.cuh"
#include "ops/linear/linear_cuda.hpp"
#include "ops/linear/matmul_tile.cuh"
#include "ops/linear/narrow_tile.hpp"
#include "ops/linear/stored.cuh"
#include "ops/linear/wide_tile.hpp"

namespace troupe::ops {
namespace {

constexpr int warps = 8;
constexpr int blocks_at_once = 2;  // of a processor
constexpr std::size_t wide_int8_rows = 64;

struct part {
  const void* weight;
  const float* scales;
  const float* bias;
  float* y;
  unsigned end;  // rows of this part and those before
  unsigned rows;
};
struct part_list {
  part parts[linear_parts];
};

__device__ part part_of(const part_list& list, unsigned row) {
  int p = 0;
  while (list.parts[p].end <= row) ++p;
  return list.parts[p];
}

// Each warp takes `own` rows of the weights, one behind the other.
template <class Numbers, bool Aligned, int Count>
__global__ void __launch_bounds__(warps* cuda::warp_size, blocks_at_once)
    few_rows_of(const __grid_constant__ part_list list, const float* x, unsigned n, unsigned rows, int count,
                unsigned own, unsigned chunk) {
  extern __shared__ __align__(16) __nv_bfloat16 staged[];
  const unsigned begin = (blockIdx.x * warps + threadIdx.x / cuda::warp_size) * own;
  const auto weights_of = [&](unsigned row, const void*(&w)[1]) {
    w[0] = nullptr;
    if (row >= rows || row >= begin + own) return;
    const part of = part_of(list, row);
    w[0] = static_cast<const char*>(of.weight) + std::size_t{row - (of.end - of.rows)} * n * Numbers::bytes;
  };
  cuda::weight_stream<Numbers, Aligned, 1> stream;
  const void* w[1];
  weights_of(begin, w);
  stream.begin(w, n);
  cuda::wait_for_inputs();
  for (unsigned i = 0; i < own; ++i) {
    weights_of(begin + i + 1, w);
    stream.follow_with(w);
    float sums[1][Count] = {};
    for (unsigned at = 0; at < n; at += chunk) {
      const unsigned size = min(chunk, n - at);
      if (i == 0 || chunk < n) {
        __syncthreads();
        for (int t = 0; t < count; ++t)
          cuda::stage_row<Aligned>(staged + t * chunk, x + std::size_t(t) * n + at, size);
        __syncthreads();
      }
      if (begin + i < rows) stream.template dot<Count>(staged, chunk, at, size, count, sums);
    }
    stream.advance();
    if (begin + i >= rows) continue;
    const part of = part_of(list, begin + i);
    const unsigned row = begin + i - (of.end - of.rows);
#pragma unroll
    for (int t = 0; t < Count; ++t) {
      if (t >= count) break;
      const float sum = cuda::warp_sum(sums[0][t]);
      if (threadIdx.x % cuda::warp_size != 0) continue;
      const float scaled = of.scales == nullptr ? sum : sum * of.scales[row];
      of.y[std::size_t(t) * of.rows + row] = of.bias == nullptr ? scaled : scaled + of.bias[row];
    }
  }
}

template <class Numbers, bool Aligned>
void launch_few(cudaStream_t stream, const part_list& list, device_inputs x, unsigned rows,
                const device_limits& limits) {
  const unsigned most = static_cast<unsigned>(limits.processors) * blocks_at_once * warps;
  const unsigned own = (rows + most - 1) / most, blocks = (rows + own * warps - 1) / (own * warps);
  const auto n = static_cast<unsigned>(x.width);
  const int count = static_cast<int>(x.rows);
  const auto go = [&](auto kernel, int staged) {
    const unsigned chunk = cuda::chunk_numbers(n, staged);
    cuda::launch_behind(kernel, blocks, warps * cuda::warp_size, cuda::chunk_bytes(chunk, staged), stream,
                        list, x.data, n, rows, count, own, chunk);
  };
  if (count == 1) return go(few_rows_of<Numbers, Aligned, 1>, 1);
  if (count == 2) return go(few_rows_of<Numbers, Aligned, 2>, 2);
  go(few_rows_of<Numbers, Aligned, 4>, 4);
}

constexpr unsigned exact_threads = 512;
constexpr unsigned exact_columns = 8;

// A block for each row of x and eight columns of y: a thread takes `Own` fours of n, a part of them at a time, whatever the company. Weights
// are on their way before x is there.
template <int Own>
__global__ void __launch_bounds__(exact_threads)
    exact_fours(const float* x, const __nv_bfloat16* w, const float* bias, float* y, unsigned n, unsigned m) {
  __shared__ float of_warps[exact_threads / cuda::warp_size][exact_columns];
  const unsigned first = blockIdx.y * exact_columns, lane = threadIdx.x % cuda::warp_size;
  uint2 weights[Own][exact_columns];
  const auto fetch = [&](unsigned base) {
#pragma unroll
    for (int k = 0; k < Own; ++k) {
      const unsigned i = base + (k * exact_threads + threadIdx.x) * 4;
#pragma unroll
      for (unsigned e = 0; e < exact_columns; ++e)
        weights[k][e] = i < n && first + e < m
                            ? __ldg(reinterpret_cast<const uint2*>(w + std::size_t{first + e} * n + i))
                            : uint2{0, 0};
    }
  };
  fetch(0);
  cuda::wait_for_inputs();
  const float* from = x + std::size_t{blockIdx.x} * n;
  float sums[exact_columns] = {};
  for (unsigned base = 0; base < n; base += Own * exact_threads * 4) {
    if (base != 0) fetch(base);
#pragma unroll
    for (int k = 0; k < Own; ++k) {
      const unsigned i = base + (k * exact_threads + threadIdx.x) * 4;
      const float4 v = i < n ? *reinterpret_cast<const float4*>(from + i) : float4{0, 0, 0, 0};
#pragma unroll
      for (unsigned e = 0; e < exact_columns; ++e) {
        const uint2 by = weights[k][e];
        sums[e] = fmaf(v.x, cuda::low_bf16(by.x), sums[e]);
        sums[e] = fmaf(v.y, cuda::high_bf16(by.x), sums[e]);
        sums[e] = fmaf(v.z, cuda::low_bf16(by.y), sums[e]);
        sums[e] = fmaf(v.w, cuda::high_bf16(by.y), sums[e]);
      }
    }
  }
#pragma unroll
  for (unsigned e = 0; e < exact_columns; ++e) {
    const float sum = cuda::warp_sum(sums[e]);
    if (lane == 0) of_warps[threadIdx.x / cuda::warp_size][e] = sum;
  }
  __syncthreads();
  const unsigned e = threadIdx.x;
  if (e >= exact_columns || first + e >= m) return;
  float sum = 0;
#pragma unroll
  for (unsigned i = 0; i < exact_threads / cuda::warp_size; ++i) sum += of_warps[i][e];
  y[std::size_t{blockIdx.x} * m + first + e] = bias == nullptr ? sum : sum + bias[first + e];
}

// The same number by number, for n that is no multiple of four.
__global__ void __launch_bounds__(exact_threads)
    exact(const float* x, const __nv_bfloat16* w, const float* bias, float* y, unsigned n, unsigned m) {
  __shared__ float shared[cuda::warp_size];
  cuda::wait_for_inputs();
  const float* from = x + std::size_t{blockIdx.x} * n;
  const __nv_bfloat16* row = w + std::size_t{blockIdx.y} * n;
  float sum = 0;
  for (unsigned i = threadIdx.x; i < n; i += exact_threads)
    sum = fmaf(from[i], __bfloat162float(row[i]), sum);
  sum = cuda::block_sum(sum, shared);
  if (threadIdx.x == 0)
    y[std::size_t{blockIdx.x} * m + blockIdx.y] = bias == nullptr ? sum : sum + bias[blockIdx.y];
}

__global__ void round_each(__nv_bfloat16* y, const float* x, std::size_t count) {
  cuda::wait_for_inputs();
  const std::size_t i = (std::size_t{blockIdx.x} * blockDim.x + threadIdx.x) * 4;
  if (i + 4 <= count) {
    const float4 v = *reinterpret_cast<const float4*>(x + i);
    __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
    *reinterpret_cast<uint2*>(y + i) = *reinterpret_cast<const uint2*>(pair);
    return;
  }
  for (std::size_t j = i; j < count; ++j) y[j] = __float2bfloat16(x[j]);
}

__global__ void round_and_permute(__nv_bfloat16* y, const float* x, std::size_t count) {
  cuda::wait_for_inputs();
  const std::size_t i = (std::size_t{blockIdx.x} * blockDim.x + threadIdx.x) * 4;
  if (i >= count) return;
  const std::size_t base = i & ~std::size_t{63};
  const unsigned at = i & 63;
  __nv_bfloat162 pair[2];
  for (unsigned j = 0; j < 2; ++j)
    pair[j] = __floats2bfloat162_rn(x[base + cuda::number_at(at + 2 * j)],
                                    x[base + cuda::number_at(at + 2 * j + 1)]);
  *reinterpret_cast<uint2*>(y + i) = *reinterpret_cast<const uint2*>(pair);
}

__global__ void add_to_rows(float* y, const float* bias, unsigned width, std::size_t count) {
  cuda::wait_for_inputs();
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) y[i] += bias[i % width];
}

unsigned blocks_for(std::size_t count, unsigned each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

}  // namespace

void linear_few_cuda(cudaStream_t stream, device_inputs x, std::span<const device_linear> maps,
                     const device_limits& limits) {
  if (x.rows == 0) return;
  part_list list = {};
  unsigned rows = 0;
  const bool int8 = maps[0].weight.int8();
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const auto own = static_cast<unsigned>(maps[i].weight.rows);
    rows += own;
    list.parts[i] = {maps[i].weight.data, maps[i].weight.scales, maps[i].bias, maps[i].y.data, rows, own};
  }
  const bool aligned = x.width % (int8 ? 16 : 8) == 0;
  if (int8 && aligned) return launch_few<cuda::int8_numbers, true>(stream, list, x, rows, limits);
  if (int8) return launch_few<cuda::int8_numbers, false>(stream, list, x, rows, limits);
  if (aligned) return launch_few<cuda::bf16_numbers, true>(stream, list, x, rows, limits);
  launch_few<cuda::bf16_numbers, false>(stream, list, x, rows, limits);
}

void linear_exact_cuda(cudaStream_t stream, device_inputs x, const device_linear& map) {
  if (x.rows == 0) return;
  const auto n = static_cast<unsigned>(x.width), m = static_cast<unsigned>(map.weight.rows);
  const auto go = [&](auto kernel, unsigned columns) {
    cuda::launch_behind(kernel, dim3(static_cast<unsigned>(x.rows), columns), exact_threads, 0, stream,
                        x.data, static_cast<const __nv_bfloat16*>(map.weight.data), map.bias, map.y.data, n,
                        m);
  };
  const unsigned eights = (m + exact_columns - 1) / exact_columns;
  if (n % 4 != 0) return go(exact, m);
  if (n <= exact_threads * 4) return go(exact_fours<1>, eights);
  if (n <= exact_threads * 8) return go(exact_fours<2>, eights);
  go(exact_fours<3>, eights);
}

void to_bf16_cuda(cudaStream_t stream, __nv_bfloat16* y, device_inputs x, bool for_int8) {
  const std::size_t count = x.rows * x.width;
  if (count > 0)
    cuda::launch_behind(for_int8 ? round_and_permute : round_each, blocks_for(count, 1024), 256, 0, stream, y,
                        x.data, count);
}

bool linear_tiles_fit(const device_matrix& weight) {
  return weight.columns % (weight.int8() ? cuda::tile_depth : 8) == 0;
}

void linear_tiles_cuda(cudaStream_t stream, device_rows<const __nv_bfloat16> x, const device_linear& map,
                       const device_limits& limits) {
  if (x.rows == 0) return;
  const bool wide = map.weight.int8() && x.rows >= wide_int8_rows &&
                    cuda::wide_tiles_serve(map.weight.rows, map.weight.columns) &&
                    cuda::launch_wide_int8(stream, map.y, x, map.weight, limits);
  if (wide) {
    if (map.bias != nullptr) add_bias_cuda(stream, map.y, map.bias);
    return;
  }
  cuda::tile_job job;
  job.a = map.weight.data;
  job.a_scales = map.weight.scales;
  job.b = x.data;
  job.y = map.y.data;
  job.m = static_cast<unsigned>(map.weight.rows);
  job.k = static_cast<unsigned>(x.width);
  job.columns = static_cast<unsigned>(x.rows);
  cuda::launch_tiles<cuda::tile_form::plain>(stream, job, 1, x.rows, limits);
  if (map.bias != nullptr) add_bias_cuda(stream, map.y, map.bias);
}

bool linear_joined_serves(std::size_t rows, std::size_t columns) {
  return rows <= joined_rows && cuda::narrow_tiles_serve(columns);
}

void linear_joined_cuda(cudaStream_t stream, device_rows<const __nv_bfloat16> x,
                        std::span<const device_linear> maps, const device_limits& limits) {
  if (cuda::launch_narrow(stream, x, maps, limits)) return;
  for (const auto& one : maps) linear_tiles_cuda(stream, x, one, limits);
}

void add_bias_cuda(cudaStream_t stream, device_floats y, const float* bias) {
  const std::size_t count = y.rows * y.width;
  if (count > 0)
    cuda::launch_behind(add_to_rows, blocks_for(count, 256), 256, 0, stream, y.data, bias,
                        static_cast<unsigned>(y.width), count);
}

}  // namespace troupe::ops
