// A tile of matrix products on the tensor cores, for linear and experts:   c [columns, M] = b [columns, K] · aᵀ
//
//   a: rows of weights [M, K], bf16 or int8 (which becomes bf16 exactly on its way in); b: bf16 rows, perhaps picked by an
//   index; c: f32, or, for the gated form, act(b · gateᵀ) * (b · upᵀ) as bf16.
//
// mma.sync m16n8k16 with f32 accumulators, fed by ldmatrix from shared memory that cp.async fills some stages ahead; rows of 128
// bytes whose 16-byte pieces are permuted by the row's number, so that no two of eight rows meet in a bank. A block of 8 warps makes
// 128 rows (gated: 64 of each matrix) by `Columns`. Each number is a sum in ascending k, whatever the tile and the company.
//
// int8 becomes bf16 in registers, 16 numbers of a row in a lane. So the numbers of b (and of the hidden result) stand in another order
// within each 64 of a row: `permuted`; K is a multiple of 64. In narrow tiles two warps share rows and take half of each 64 of k.
#pragma once

#include "ops/device/cuda_launch.cuh"
#include "ops/device/cuda_math.cuh"
#include "ops/device/cuda_view.hpp"
#include "ops/linear/warp_multiply.cuh"

namespace troupe::ops::cuda {

enum class tile_form { plain, gated, grouped };

// Work of several groups: group g has `counts[g]` columns from `offsets[g]` on and the weights of plane `groups[g]`; all arrays on
// the device, `group_count` of them in use. A plain job is one group.
struct tile_job {
  const void* a = nullptr;                 // plain
  const float* a_scales = nullptr;         // plain; null = bf16
  const void* const* planes = nullptr;     // gated: gate; grouped: the only one
  const void* const* up_planes = nullptr;  // gated
  const float* const* scales = nullptr;    // int8: of each plane's rows; null = bf16
  const float* const* up_scales = nullptr;
  const __nv_bfloat16* b = nullptr;      // rows of K
  const std::int32_t* b_rows = nullptr;  // of each column; null = its own number
  float* y = nullptr;                    // plain, grouped: [columns, M]
  __nv_bfloat16* hidden = nullptr;       // gated: [columns, M]
  const std::int32_t *groups = nullptr, *offsets = nullptr, *counts = nullptr, *group_count = nullptr;
  unsigned m = 0, k = 0, columns = 0;
  activation act = activation::silu;
};

constexpr int tile_rows = 128;
constexpr int tile_threads = 256;

__host__ __device__ constexpr int stages_for(int columns, bool int8) {
  return int8 ? (columns >= 64 ? 4 : 6) : columns >= 128 ? 3 : 4;
}
__host__ __device__ constexpr int weight_bytes(bool int8) {  // of a stage
  return tile_rows * tile_depth * (int8 ? 1 : 2);
}
__host__ __device__ constexpr int tile_bytes(int columns, bool int8) {
  return stages_for(columns, int8) * (weight_bytes(int8) + columns * row_bytes);
}

template <tile_form Form, int Columns, bool Int8>
__global__ void __launch_bounds__(tile_threads) tiles(tile_job job) {
  constexpr int stages = stages_for(Columns, Int8);
  constexpr int b_loads = (Columns * 8 + tile_threads - 1) / tile_threads;
  constexpr bool halved = Int8 && Columns <= 32;  // two warps share rows and columns, and halve k
  constexpr int column_tiles = halved ? Columns / 8 : Columns / 16;  // of 8 columns, in each warp
  constexpr unsigned own_rows = Form == tile_form::gated ? tile_rows / 2 : tile_rows;
  extern __shared__ __align__(128) char memory[];
  wait_for_inputs();

  // The group and the first column of this block.
  unsigned tile = blockIdx.x, columns = job.columns, base = 0;
  const char *a = static_cast<const char*>(job.a), *a_up = nullptr;
  const float *scales = job.a_scales, *up_scales = nullptr;
  if constexpr (Form != tile_form::plain) {
    const int groups = *job.group_count;
    int g = 0;
    for (; g < groups; ++g) {
      columns = job.counts[g];
      const unsigned own = (columns + Columns - 1) / Columns;
      if (tile < own) break;
      tile -= own;
    }
    if (g == groups) return;
    base = job.offsets[g];
    const int plane = job.groups[g];
    a = static_cast<const char*>(job.planes[plane]);
    if constexpr (Int8) scales = job.scales[plane];
    if constexpr (Form == tile_form::gated) {
      a_up = static_cast<const char*>(job.up_planes[plane]);
      if constexpr (Int8) up_scales = job.up_scales[plane];
    }
  }
  const unsigned first_column = tile * Columns;
  if (first_column >= columns) return;
  const unsigned first_row = blockIdx.y * own_rows;
  const unsigned thread = threadIdx.x, lane = thread % warp_size, warp = thread / warp_size;
  const unsigned warp_row = warp & 3, warp_column = warp >> 2;
  const unsigned shared = shared_address(memory);
  const auto a_stage = [&](unsigned s) { return shared + s * weight_bytes(Int8); };
  const auto b_stage = [&](unsigned s) {
    return shared + stages * weight_bytes(Int8) + s * (Columns * row_bytes);
  };

  // What each thread fetches: row thread / 8 + 32 i (int8: thread / 4 + 64 i), one piece of it.
  constexpr int a_loads = Int8 ? 2 : 4;
  constexpr unsigned lanes_of_row = Int8 ? 4 : 8, numbers_of_load = Int8 ? 16 : 8, element = Int8 ? 1 : 2;
  const char* a_from[a_loads];
  bool a_live[a_loads];
#pragma unroll
  for (int i = 0; i < a_loads; ++i) {
    const unsigned r = thread / lanes_of_row + i * (tile_threads / lanes_of_row);
    const bool upper = Form == tile_form::gated && r >= own_rows;
    const unsigned row = first_row + (upper ? r - own_rows : r);
    a_live[i] = row < job.m;
    a_from[i] =
        (upper ? a_up : a) +
        (std::size_t{a_live[i] ? row : 0} * job.k + thread % lanes_of_row * numbers_of_load) * element;
  }
  const __nv_bfloat16* b_from[b_loads];
  bool b_live[b_loads];
#pragma unroll
  for (int i = 0; i < b_loads; ++i) {
    const unsigned c = thread / 8 + i * (tile_threads / 8);
    b_live[i] = c < Columns && first_column + c < columns;
    std::size_t row = base + first_column + (b_live[i] ? c : 0);
    if (job.b_rows != nullptr) row = job.b_rows[row];
    b_from[i] = job.b + row * job.k + thread % 8 * 8;
  }
  const unsigned steps = (job.k + tile_depth - 1) / tile_depth;
  const auto fetch_b = [&](unsigned step, unsigned stage) {
    const unsigned at = step * tile_depth + thread % 8 * 8;
#pragma unroll
    for (int i = 0; i < b_loads; ++i) {
      const unsigned c = thread / 8 + i * (tile_threads / 8);
      if (c >= Columns) break;
      const bool live = b_live[i] && at < job.k;
      copy_ahead(b_stage(stage) + piece_at(c, thread % 8), live ? b_from[i] + step * tile_depth : job.b,
                 live ? 16 : 0);
    }
  };
  const auto fetch_a = [&](unsigned step, unsigned stage) {
    const unsigned at = step * tile_depth + thread % lanes_of_row * numbers_of_load;
#pragma unroll
    for (int i = 0; i < a_loads; ++i) {
      const unsigned r = thread / lanes_of_row + i * (tile_threads / lanes_of_row);
      const bool live = a_live[i] && at < job.k;
      copy_ahead(a_stage(stage) + (Int8 ? r * tile_depth + thread % 4 * 16 : piece_at(r, thread % 8)),
                 live ? a_from[i] + std::size_t{step} * tile_depth * element : a_from[i], live ? 16 : 0);
    }
  };
  // The warp's first row of each 16 that it multiplies.
  const auto slab_of = [&](unsigned i) {
    return Form == tile_form::gated ? i * own_rows + warp_row * 16 : warp_row * 32 + i * 16;
  };
  std::uint32_t held[2][2][halved ? 2 : 4];  // int8: a lane's numbers of a stage, of rows lane / 4 and + 8
  const auto hold_a = [&](unsigned stage) {
#pragma unroll
    for (unsigned i = 0; i < 2; ++i)
#pragma unroll
      for (unsigned half = 0; half < 2; ++half) {
        const char* from = memory + stage * weight_bytes(Int8) +
                           (slab_of(i) + lane / 4 + half * 8) * tile_depth + lane % 4 * 16;
        if constexpr (halved)
          *reinterpret_cast<uint2*>(held[i][half]) = *reinterpret_cast<const uint2*>(from + warp_column * 8);
        else
          *reinterpret_cast<uint4*>(held[i][half]) = *reinterpret_cast<const uint4*>(from);
      }
  };

  float sums[2][column_tiles][4] = {};
#pragma unroll
  for (int s = 0; s < stages - 1; ++s) {
    if (s < static_cast<int>(steps)) {
      fetch_b(s, s);
      fetch_a(s, s);
    }
    close_group();
  }
  for (unsigned step = 0; step < steps; ++step) {
    wait_groups<stages - 2>();
    __syncthreads();
    const unsigned ahead = step + stages - 1, stage_ahead = ahead % stages;
    if (ahead < steps) {
      fetch_b(ahead, stage_ahead);
      fetch_a(ahead, stage_ahead);
    }
    close_group();
    const unsigned stage = step % stages;
    if constexpr (Int8) hold_a(stage);
#pragma unroll
    for (unsigned turn = 0; turn < (halved ? 2 : tile_depth / 16); ++turn) {
      const unsigned k = halved ? warp_column * 2 + turn : turn;
      unsigned of_a[2][4];
#pragma unroll
      for (unsigned i = 0; i < 2; ++i) {
        if constexpr (Int8) {
#pragma unroll
          for (unsigned half = 0; half < 2; ++half) {
            of_a[i][half] = widen_pair(held[i][half][turn]);
            of_a[i][half + 2] = widen_pair(held[i][half][turn] >> 8);
          }
        } else {
          load_matrices(of_a[i], a_stage(stage) + piece_at(slab_of(i) + lane % 16, k * 2 + lane / 16));
        }
      }
      const unsigned own = halved ? 0 : warp_column * (Columns / 2);
      if constexpr (column_tiles == 1) {
        unsigned b0, b1;
        load_two_matrices(b0, b1, b_stage(stage) + piece_at(own + lane % 8, k * 2 + lane / 8 % 2));
        multiply(sums[0][0], of_a[0], b0, b1);
        multiply(sums[1][0], of_a[1], b0, b1);
      } else {
#pragma unroll
        for (int c = 0; c < column_tiles; c += 2) {
          unsigned of_b[4];
          load_matrices(
              of_b, b_stage(stage) + piece_at(own + c * 8 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            multiply(sums[i][c], of_a[i], of_b[0], of_b[1]);
            multiply(sums[i][c + 1], of_a[i], of_b[2], of_b[3]);
          }
        }
      }
    }
  }
  if constexpr (halved) {  // the second half of k joins the first
    wait_groups<0>();
    __syncthreads();
    float* other = reinterpret_cast<float*>(memory) + (warp_row * warp_size + lane);
    constexpr unsigned apart = 4 * warp_size;
    if (warp_column == 1)
#pragma unroll
      for (int i = 0; i < 2 * column_tiles * 4; ++i)
        other[i * apart] = sums[i / (column_tiles * 4)][i / 4 % column_tiles][i % 4];
    __syncthreads();
    if (warp_column == 1) return;
#pragma unroll
    for (int i = 0; i < 2 * column_tiles * 4; ++i)
      sums[i / (column_tiles * 4)][i / 4 % column_tiles][i % 4] += other[i * apart];
  }

  const auto scale_of = [&](const float* of, unsigned row) { return Int8 ? of[row] : 1.0f; };
#pragma unroll
  for (int c = 0; c < column_tiles; ++c) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const unsigned column =
          first_column + (halved ? 0 : warp_column * (Columns / 2)) + c * 8 + lane % 4 * 2 + j % 2;
      if (column >= columns) continue;
      const std::size_t to = std::size_t{base + column} * job.m;
      if constexpr (Form == tile_form::gated) {
        const unsigned row = first_row + warp_row * 16 + lane / 4 + j / 2 * 8;
        if (row >= job.m) continue;
        const float gate = sums[0][c][j] * scale_of(scales, row),
                    up = sums[1][c][j] * scale_of(up_scales, row);
        job.hidden[to + (Int8 ? permuted(row) : row)] = __float2bfloat16(activate(job.act, gate) * up);
      } else {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const unsigned row = first_row + warp_row * 32 + i * 16 + lane / 4 + j / 2 * 8;
          if (row < job.m) job.y[to + row] = sums[i][c][j] * scale_of(scales, row);
        }
      }
    }
  }
}

// `groups`: at most so many; `columns`: of all groups together. The tile's width follows from what a group has on average; results
// do not depend on it.
template <tile_form Form>
void launch_tiles(cudaStream_t stream, const tile_job& job, std::size_t groups, std::size_t columns,
                  const device_limits& limits) {
  const std::size_t average = (columns + groups - 1) / groups;
  const unsigned rows = Form == tile_form::gated ? tile_rows / 2 : tile_rows;
  const auto go = [&]<int Columns, bool Int8>() {
    const dim3 grid(static_cast<unsigned>((columns + Columns - 1) / Columns + groups - 1),
                    (job.m + rows - 1) / rows);
    const auto kernel = tiles<Form, Columns, Int8>;
    launch_behind(kernel, grid, tile_threads, tile_bytes(Columns, Int8), stream, job);
  };
  const bool int8 = job.scales != nullptr || job.a_scales != nullptr;
  const auto pick = [&]<int Columns>() {
    return int8 ? go.template operator()<Columns, true>() : go.template operator()<Columns, false>();
  };
  const bool roomy = limits.block_shared >= static_cast<std::size_t>(tile_bytes(128, int8));
  if (average <= 12) return pick.template operator()<16>();
  if (average <= 32) return pick.template operator()<32>();
  if (average <= 96 || !roomy) return pick.template operator()<64>();
  pick.template operator()<128>();
}

}  // namespace troupe::ops::cuda
