// Narrow tiles (narrow_tile.hpp): what the two warpgroups of a block do.
#pragma once

#include "ops/linear/narrow_fetch.cuh"

namespace troupe::ops::cuda::narrow {

#if TROUPE_WARPGROUPS

// A lane's part of 64 of k as bf16: rows `rows` (bytes) and the piece of each, for each 16 of k.
__device__ inline void widen_half(unsigned (&a)[4][4], const char* stage, const unsigned (&rows)[2],
                                  unsigned piece) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 v = *reinterpret_cast<const uint4*>(stage + rows[half] + piece);
    const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      a[k][half] = widen_pair(words[k]);
      a[k][half + 2] = widen_pair(words[k] >> 8);
    }
  }
}

// Where a lane's numbers stand in a tile. Lanes take rows in an order in which no two of a quarter warp meet in a bank.
template <narrow_form Form>
struct lane_place {
  unsigned own, row, part;  // row of the tile; which fourth of 64
  __device__ lane_place() {
    const unsigned lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, i = lane / 4;
    own = (i & 1) << 2 | i >> 1;
    row = warp * (Form == narrow_form::gated ? 8 : 16) + own;
    part = lane % 4;
  }
  __device__ unsigned second() const { return Form == narrow_form::gated ? row + 64 : row + 8; }
  __device__ unsigned piece(unsigned half) const { return ((half * 4 + part) ^ own) << 4; }
};

// With mma.sync: each warp for itself, its part of a stage in registers, the stage free at once.
template <narrow_form Form, unsigned Columns>
__device__ void multiply_alone(float (&c)[Columns / 8][4], const narrow_memory_places& at,
                               const lane_place<Form>& place, ring& r, unsigned steps) {
  constexpr unsigned tiles = Columns / 8;
  const unsigned lane = threadIdx.x % warp_size;
  const unsigned rows[2] = {place.row * step_depth, place.second() * step_depth};
  for (unsigned step = 0; step < steps; ++step) {
    wait_barrier(at.full + 8 * r.stage, r.parity);
    const char* stage = at.memory + r.stage * narrow_stage<Columns>;
    const unsigned x = at.shared + r.stage * narrow_stage<Columns> + weight_stage;
    std::uint32_t held[2][2][4];
#pragma unroll
    for (unsigned i = 0; i < 2; ++i)
#pragma unroll
      for (unsigned half = 0; half < 2; ++half)
        *reinterpret_cast<uint4*>(held[i][half]) =
            *reinterpret_cast<const uint4*>(stage + rows[half] + place.piece(i));
    if constexpr (tiles == 1) {
      unsigned of_x[2][2][4];  // of each half, for two 16 of k
#pragma unroll
      for (unsigned i = 0; i < 2; ++i)
#pragma unroll
        for (unsigned k = 0; k < 2; ++k)
          load_matrices(of_x[i][k], x + i * Columns * row_bytes + piece_at(lane % 8, k * 4 + lane / 8));
      __syncwarp();
      if (lane == 0) arrive(at.empty + 8 * r.stage);
#pragma unroll
      for (unsigned i = 0; i < 2; ++i)
#pragma unroll
        for (unsigned k = 0; k < 4; ++k) {
          const std::uint32_t one = held[i][0][k], two = held[i][1][k];
          const unsigned a[4] = {widen_pair(one), widen_pair(two), widen_pair(one >> 8),
                                 widen_pair(two >> 8)};
          multiply(c[0], a, of_x[i][k / 2][k % 2 * 2], of_x[i][k / 2][k % 2 * 2 + 1]);
        }
    } else {
#pragma unroll
      for (unsigned i = 0; i < 2; ++i)
#pragma unroll
        for (unsigned k = 0; k < 4; ++k) {
          const std::uint32_t one = held[i][0][k], two = held[i][1][k];
          const unsigned a[4] = {widen_pair(one), widen_pair(two), widen_pair(one >> 8),
                                 widen_pair(two >> 8)};
#pragma unroll
          for (unsigned t = 0; t < tiles; t += 2) {
            unsigned of_x[4];
            load_matrices(of_x, x + i * Columns * row_bytes +
                                    piece_at(t * 8 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
            multiply(c[t], a, of_x[0], of_x[1]);
            multiply(c[t + 1], a, of_x[2], of_x[3]);
          }
        }
      __syncwarp();
      if (lane == 0) arrive(at.empty + 8 * r.stage);
    }
    r.advance<narrow_stages<Columns>>();
  }
}

template <narrow_form Form, unsigned Columns>
__device__ void multiply_narrow(float (&c)[Columns / 8][4], const narrow_memory_places& at,
                                const lane_place<Form>& lane, ring& r, unsigned steps) {
  const bool speaker = threadIdx.x % warp_size == 0;
  const unsigned rows[2] = {lane.row * step_depth, lane.second() * step_depth};
  unsigned even[4][4], odd[4][4], before = 0;
  for (unsigned step = 0; step < steps; ++step) {
    wait_barrier(at.full + 8 * r.stage, r.parity);
    const char* stage = at.memory + r.stage * narrow_stage<Columns>;
    const unsigned x = at.shared + r.stage * narrow_stage<Columns> + weight_stage;
    const auto half = [&](unsigned(&a)[4][4], unsigned i) {
      widen_half(a, stage, rows, lane.piece(i));
      open_products();
#pragma unroll
      for (unsigned k = 0; k < 4; ++k)
        narrow_multiply(c, a[k], describe_tile(x + i * Columns * row_bytes + k * 32, 1024, 16));
      close_products();
      wait_products<1>();
    };
    half(even, 0);
    if (step != 0 && speaker) arrive(at.empty + 8 * before);
    half(odd, 1);
    before = r.stage;
    r.advance<narrow_stages<Columns>>();
  }
  wait_products<0>();
  if (steps != 0 && speaker) arrive(at.empty + 8 * before);
  hold_narrow(c);
}

// Columns of a lane's accumulators.
template <unsigned Columns, class Each>
__device__ inline void for_each_sum(const float (&c)[Columns / 8][4], unsigned part, const Each& each) {
#pragma unroll
  for (unsigned t = 0; t < Columns / 8; ++t)
#pragma unroll
    for (unsigned j = 0; j < 2; ++j) each(t * 8 + part * 2 + j, c[t][j], c[t][j + 2]);
}

// The sums of a cluster's blocks, added in their order; each block writes a part of them.
template <unsigned Columns>
__device__ void add_cluster(const float (&c)[Columns / 8][4], const narrow_memory_places& at,
                            const lane_place<narrow_form::linear>& lane, const narrow_part& of,
                            const narrow_place& place) {
  auto* sums = reinterpret_cast<float*>(at.memory);
  asm volatile("bar.sync 1, %0;" ::"n"(workers) : "memory");
  for_each_sum<Columns>(c, lane.part, [&](unsigned column, float one, float two) {
    sums[column * sum_stride + lane.row] = one;
    sums[column * sum_stride + lane.second()] = two;
  });
  meet_cluster();
  const unsigned blocks = cluster_blocks();
  for (unsigned i = cluster_rank() * workers + threadIdx.x; i < Columns * rows_of_tile / 4;
       i += blocks * workers) {
    const unsigned column = i / (rows_of_tile / 4), in_tile = i % (rows_of_tile / 4) * 4;
    if (column >= place.columns) break;
    float4 theirs[most_cluster];
#pragma unroll
    for (unsigned b = 0; b < most_cluster; ++b)
      if (b < blocks) theirs[b] = read_neighbour(at.shared + (column * sum_stride + in_tile) * 4, b);
    float4 sum = {0, 0, 0, 0};
#pragma unroll
    for (unsigned b = 0; b < most_cluster; ++b)
      if (b < blocks)
        sum = {sum.x + theirs[b].x, sum.y + theirs[b].y, sum.z + theirs[b].z, sum.w + theirs[b].w};
    const float values[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) {
      const unsigned row = place.row + in_tile + j;
      if (row >= of.rows) break;
      const float value = values[j] * of.scales[row];
      of.y[std::size_t{column} * of.rows + row] = of.bias == nullptr ? value : value + of.bias[row];
    }
  }
  meet_cluster();
}

template <narrow_form Form, unsigned Columns>
__device__ void work_narrow(const narrow_work& work, const group_list& list, const narrow_memory_places& at) {
  const lane_place<Form> lane;
  const auto& job = work.job;
  tile_walk<Form, Columns> walk(work, list);
  ring r;
  narrow_place place;
  for (; walk.find(place); walk.next()) {
    const narrow_part& of = work.parts[Form == narrow_form::linear ? place.plane : 0];
    const unsigned m = Form == narrow_form::linear ? of.rows : job.m, row = place.row + lane.row,
                   second = Form == narrow_form::gated ? row : row + 8;
    const float* scales = Form == narrow_form::linear ? of.scales : job.scales[place.plane];
    const float* others = Form == narrow_form::gated ? job.up_scales[place.plane] : scales;
    const float factors[2] = {scales[min(row, m - 1)], others[min(second, m - 1)]};
    float c[Columns / 8][4] = {};
    if constexpr (by_warps<Columns>)
      multiply_alone<Form, Columns>(c, at, lane, r, place.end - place.first);
    else
      multiply_narrow<Form, Columns>(c, at, lane, r, place.end - place.first);
    if constexpr (Form == narrow_form::linear)
      if (cluster_blocks() > 1) return add_cluster<Columns>(c, at, lane, of, place);
    const float* bias = Form == narrow_form::linear ? of.bias : nullptr;
    const float offsets[2] = {bias == nullptr ? 0.0f : bias[min(row, m - 1)],
                              bias == nullptr ? 0.0f : bias[min(second, m - 1)]};
    for_each_sum<Columns>(c, lane.part, [&](unsigned t, float one, float two) {
      const unsigned column = place.column + t;
      if (column >= place.columns) return;
      const std::size_t to = std::size_t{place.base + column} * m;
      one *= factors[0];
      two *= factors[1];
      if constexpr (Form == narrow_form::gated) {
        if (row < m) job.hidden[to + permuted(row)] = __float2bfloat16(activate(job.act, one) * two);
      } else {
        float* y = Form == narrow_form::linear ? of.y : job.y + place.cut * job.cut_stride;
        if (row < m) y[to + row] = bias == nullptr ? one : one + offsets[0];
        if (second < m) y[to + second] = bias == nullptr ? two : two + offsets[1];
      }
    });
  }
}

#endif

}  // namespace troupe::ops::cuda::narrow
