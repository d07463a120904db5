#include "ops/device/cuda_launch.cuh"
#include "ops/rows/rows_cuda.hpp"

namespace troupe::ops {
namespace {

constexpr unsigned threads = 256;

dim3 grid_for(std::size_t rows, std::size_t width) {
  return {static_cast<unsigned>((width + threads - 1) / threads), static_cast<unsigned>(rows)};
}

__global__ void embed_rows(float* y, const std::int32_t* tokens, const __nv_bfloat16* table, unsigned width) {
  cuda::wait_for_inputs();
  const unsigned n = blockIdx.x * threads + threadIdx.x;
  if (n >= width) return;
  const std::int32_t token = tokens[blockIdx.y];
  y[std::size_t{blockIdx.y} * width + n] =
      token < 0 ? 0.0f : __bfloat162float(table[static_cast<std::size_t>(token) * width + n]);
}

// y[row] = x[rows == null ? row : rows[row]] for `width` columns of rows that are apart by their strides.
__global__ void copy_rows(float* y, std::size_t y_stride, const float* x, std::size_t x_stride,
                          const std::uint32_t* rows, unsigned width) {
  cuda::wait_for_inputs();
  const unsigned n = blockIdx.x * threads + threadIdx.x;
  if (n >= width) return;
  const std::size_t from = rows == nullptr ? blockIdx.y : rows[blockIdx.y];
  y[blockIdx.y * y_stride + n] = x[from * x_stride + n];
}

struct part_list {
  struct {
    float* data;
    unsigned width;
  } parts[8];
};

// Columns of x to the parts, side by side; `width` of them in all.
__global__ void split_rows(const __grid_constant__ part_list list, const float* x, unsigned x_stride,
                           unsigned width) {
  cuda::wait_for_inputs();
  const unsigned n = blockIdx.x * threads + threadIdx.x;
  if (n >= width) return;
  const float value = x[std::size_t{blockIdx.y} * x_stride + n];
  unsigned own = n;
#pragma unroll
  for (const auto& part : list.parts) {
    if (own < part.width) {
      part.data[std::size_t{blockIdx.y} * part.width + own] = value;
      return;
    }
    own -= part.width;
  }
}

void copy(cudaStream_t stream, float* y, std::size_t y_stride, const float* x, std::size_t x_stride,
          const std::uint32_t* which, std::size_t rows, std::size_t width) {
  if (rows == 0 || width == 0) return;
  cuda::launch_behind(copy_rows, grid_for(rows, width), threads, 0, stream, y, y_stride, x, x_stride, which,
                      static_cast<unsigned>(width));
}

}  // namespace

void embed_cuda(cudaStream_t stream, device_floats y, const std::int32_t* tokens,
                const device_matrix& table) {
  if (y.rows == 0) return;
  cuda::launch_behind(embed_rows, grid_for(y.rows, y.width), threads, 0, stream, y.data, tokens,
                      static_cast<const __nv_bfloat16*>(table.data), static_cast<unsigned>(y.width));
}

void select_rows_cuda(cudaStream_t stream, device_floats y, device_inputs x, const std::uint32_t* rows) {
  copy(stream, y.data, y.width, x.data, x.width, rows, y.rows, y.width);
}

void split_cuda(cudaStream_t stream, std::span<const device_floats> y, device_inputs x) {
  std::size_t column = 0;
  for (std::size_t done = 0; done < y.size() && x.rows > 0;) {
    part_list list = {};
    std::size_t width = 0;
    for (auto& part : list.parts) {
      if (done < y.size()) {
        part = {y[done].data, static_cast<unsigned>(y[done].width)};
        width += y[done++].width;
      }
    }
    cuda::launch_behind(split_rows, grid_for(x.rows, width), threads, 0, stream, list, x.data + column,
                        static_cast<unsigned>(x.width), static_cast<unsigned>(width));
    column += width;
  }
}

void concat_cuda(cudaStream_t stream, device_floats y, std::span<const device_inputs> x) {
  std::size_t column = 0;
  for (const auto& part : x) {
    copy(stream, y.data + column, y.width, part.data, part.width, nullptr, y.rows, part.width);
    column += part.width;
  }
}

}  // namespace troupe::ops
