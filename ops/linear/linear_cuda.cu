#include "ops/linear/linear_cuda.hpp"
#include "ops/linear/matmul_tile.cuh"
#include "ops/linear/stored.cuh"

namespace troupe::ops {
namespace {

constexpr int warps = 8;
constexpr int warp_rows = 2;  // of the weight, in each warp

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

template <class Numbers, bool Aligned, int Count>
__global__ void __launch_bounds__(warps* cuda::warp_size)
    few_rows_of(part_list list, const float* x, unsigned n, unsigned rows, int count) {
  __shared__ __align__(16) __nv_bfloat16 staged[cuda::chunk_numbers(Count) * Count];
  const unsigned warp = threadIdx.x / cuda::warp_size;
  const unsigned first = (blockIdx.x * warps + warp) * warp_rows;
  const void* w[warp_rows];
  part of[warp_rows];
  unsigned row[warp_rows];
  for (int r = 0; r < warp_rows; ++r) {
    const unsigned m = min(first + r, rows - 1);
    int p = 0;
    while (list.parts[p].end <= m) ++p;
    of[r] = list.parts[p];
    row[r] = m - (of[r].end - of[r].rows);
    w[r] = static_cast<const char*>(of[r].weight) + std::size_t{row[r]} * n * Numbers::bytes;
  }
  cuda::weight_stream<Numbers, Aligned, warp_rows> stream;
  stream.begin(w, n);
  float sums[warp_rows][Count] = {};
  constexpr unsigned chunk = cuda::chunk_numbers(Count);
  for (unsigned begin = 0; begin < n; begin += chunk) {
    const unsigned size = min(chunk, n - begin);
    __syncthreads();
    for (int t = 0; t < count; ++t) cuda::stage_row(staged + t * chunk, x + std::size_t(t) * n + begin, size);
    __syncthreads();
    stream.template dot<Count>(staged, chunk, begin, size, count, sums);
  }
#pragma unroll
  for (int r = 0; r < warp_rows; ++r) {
#pragma unroll
    for (int t = 0; t < Count; ++t) {
      if (t >= count) break;
      const float sum = cuda::warp_sum(sums[r][t]);
      if (threadIdx.x % cuda::warp_size != 0 || first + r >= rows) continue;
      const float scaled = of[r].scales == nullptr ? sum : sum * of[r].scales[row[r]];
      of[r].y[std::size_t(t) * of[r].rows + row[r]] =
          of[r].bias == nullptr ? scaled : scaled + of[r].bias[row[r]];
    }
  }
}

template <class Numbers, bool Aligned>
void launch_few(cudaStream_t stream, const part_list& list, device_inputs x, unsigned rows) {
  const unsigned blocks = (rows + warps * warp_rows - 1) / (warps * warp_rows);
  const auto n = static_cast<unsigned>(x.width);
  const int count = static_cast<int>(x.rows);
  const auto go = [&](auto kernel) {
    kernel<<<blocks, warps * cuda::warp_size, 0, stream>>>(list, x.data, n, rows, count);
  };
  if (count == 1) return go(few_rows_of<Numbers, Aligned, 1>);
  if (count == 2) return go(few_rows_of<Numbers, Aligned, 2>);
  go(few_rows_of<Numbers, Aligned, 4>);
}

// A warp for each row of x, eight columns of y at a time.
__global__ void exact(const float* x, const __nv_bfloat16* w, const float* bias, float* y, unsigned n,
                      unsigned m, unsigned rows) {
  const unsigned t = blockIdx.x * (blockDim.x / cuda::warp_size) + threadIdx.x / cuda::warp_size;
  const unsigned lane = threadIdx.x % cuda::warp_size;
  if (t >= rows) return;
  const float* from = x + std::size_t{t} * n;
  for (unsigned first = 0; first < m; first += 8) {
    float sums[8] = {};
    for (unsigned i = lane; i < n; i += cuda::warp_size)
#pragma unroll
      for (unsigned e = 0; e < 8; ++e)
        if (first + e < m)
          sums[e] = fmaf(from[i], __bfloat162float(w[std::size_t{first + e} * n + i]), sums[e]);
#pragma unroll
    for (unsigned e = 0; e < 8; ++e) {
      const float sum = cuda::warp_sum(sums[e]);
      if (lane == 0 && first + e < m)
        y[std::size_t{t} * m + first + e] = bias == nullptr ? sum : sum + bias[first + e];
    }
  }
}

__global__ void round_each(__nv_bfloat16* y, const float* x, std::size_t count) {
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
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) y[i] += bias[i % width];
}

unsigned blocks_for(std::size_t count, unsigned each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

}  // namespace

void linear_few_cuda(cudaStream_t stream, device_inputs x, std::span<const device_linear> maps) {
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
  if (int8 && aligned) return launch_few<cuda::int8_numbers, true>(stream, list, x, rows);
  if (int8) return launch_few<cuda::int8_numbers, false>(stream, list, x, rows);
  if (aligned) return launch_few<cuda::bf16_numbers, true>(stream, list, x, rows);
  launch_few<cuda::bf16_numbers, false>(stream, list, x, rows);
}

void linear_exact_cuda(cudaStream_t stream, device_inputs x, const device_linear& map) {
  if (x.rows == 0) return;
  const unsigned block_warps = x.rows < 64 ? 1 : 4;
  exact<<<blocks_for(x.rows, block_warps), block_warps * cuda::warp_size, 0, stream>>>(
      x.data, static_cast<const __nv_bfloat16*>(map.weight.data), map.bias, map.y.data,
      static_cast<unsigned>(x.width), static_cast<unsigned>(map.weight.rows), static_cast<unsigned>(x.rows));
}

void to_bf16_cuda(cudaStream_t stream, __nv_bfloat16* y, device_inputs x, bool for_int8) {
  const std::size_t count = x.rows * x.width;
  if (count > 0)
    (for_int8 ? round_and_permute : round_each)<<<blocks_for(count, 1024), 256, 0, stream>>>(y, x.data,
                                                                                             count);
}

bool linear_tiles_fit(const device_matrix& weight) {
  return weight.columns % (weight.int8() ? cuda::tile_depth : 8) == 0;
}

void linear_tiles_cuda(cudaStream_t stream, device_rows<const __nv_bfloat16> x, const device_linear& map,
                       const device_limits& limits) {
  if (x.rows == 0) return;
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

void add_bias_cuda(cudaStream_t stream, device_floats y, const float* bias) {
  const std::size_t count = y.rows * y.width;
  if (count > 0)
    add_to_rows<<<blocks_for(count, 256), 256, 0, stream>>>(y.data, bias, static_cast<unsigned>(y.width),
                                                            count);
}

}  // namespace troupe::ops
