// Narrow tiles (narrow_tile.hpp): their shape, which tiles a block takes, and the thread that has the copy engine fetch them.
#pragma once

#include "ops/device/cuda_launch.cuh"
#include "ops/linear/narrow_tile.hpp"
#include "ops/linear/tensor_map.hpp"
#include "ops/linear/warp_multiply.cuh"
#include "ops/linear/warpgroup_narrow.cuh"

namespace troupe::ops::cuda::narrow {

constexpr unsigned rows_of_tile = 128;
constexpr unsigned step_depth = 128;  // of k, in a stage
constexpr unsigned workers = 2 * warpgroup_size, worker_warps = workers / warp_size;
constexpr unsigned narrow_threads = workers + warp_size;
constexpr unsigned weight_stage = rows_of_tile * step_depth;
constexpr unsigned most_cluster = 8;
constexpr unsigned sum_stride = rows_of_tile + 4;  // of a column in the sums that a cluster shares

template <unsigned Columns>
constexpr unsigned narrow_blocks = Columns > 64 ? 1 : 2;  // of a processor
template <unsigned Columns>
constexpr unsigned narrow_stages = Columns <= 8    ? 6
                                   : Columns <= 16 ? 5
                                   : Columns == 64 ? 3
                                                   : 4;
template <unsigned Columns>
constexpr bool by_warps = Columns <= 16;  // mma.sync instead of warpgroup products
template <unsigned Columns>
constexpr unsigned narrow_stage = weight_stage + Columns* step_depth * 2;
template <unsigned Columns>
constexpr unsigned narrow_memory = narrow_stages<Columns>* narrow_stage<Columns> + 1024;

struct narrow_part {
  const float* scales;
  const float* bias;
  float* y;
  unsigned rows;
  unsigned end;  // tiles of this part and those before
};
struct narrow_work {
  narrow_job job;
  narrow_part parts[linear_parts];
  unsigned columns;  // linear
};
struct narrow_maps {
  CUtensorMap a[linear_parts];  // gated: gate and up
  CUtensorMap x;
};

#if TROUPE_WARPGROUPS

struct group_list {
  unsigned count;
  unsigned ends[narrow_groups];  // tiles of this group and those before
  unsigned planes[narrow_groups], bases[narrow_groups], columns[narrow_groups];
};

struct narrow_place {
  unsigned row, column, columns, base;  // first row and column of the tile, columns and offset of the group
  unsigned plane;                       // or part of linear
  unsigned cut, first, end;             // which cut of k; its steps

  __device__ void cut_of(unsigned k, unsigned index, unsigned cuts) {
    const unsigned all = (k + step_depth - 1) / step_depth, own = (all + cuts - 1) / cuts;
    cut = index;
    first = min(index * own, all);
    end = min(first + own, all);
  }
};

struct narrow_memory_places {
  unsigned shared, full, empty;  // addresses; barriers are 8 bytes apart
  char* memory;                  // the same as `shared`
};

template <narrow_form Form>
constexpr unsigned own_rows = Form == narrow_form::gated ? rows_of_tile / 2 : rows_of_tile;

template <narrow_form Form, unsigned Columns>
__device__ void list_groups(const narrow_job& job, group_list& list) {
  const unsigned row_tiles = (job.m + own_rows<Form> - 1) / own_rows<Form>, g = threadIdx.x;
  const auto count = static_cast<unsigned>(*job.group_count);
  if (g < count) {
    list.planes[g] = job.groups[g];
    list.bases[g] = job.offsets[g];
    list.columns[g] = job.counts[g];
  }
  __syncthreads();
  if (g < count) {
    unsigned end = 0;
    for (unsigned i = 0; i <= g; ++i) end += (list.columns[i] + Columns - 1) / Columns * row_tiles * job.cuts;
    list.ends[g] = end;
  }
  if (g == 0) list.count = count;
  __syncthreads();
}

// The tiles of this block: every gridDim.x-th, or the one that its cluster shares.
template <narrow_form Form, unsigned Columns>
struct tile_walk {
  const narrow_work& work;
  const group_list& list;
  unsigned tile, group = 0;

  __device__ tile_walk(const narrow_work& w, const group_list& l)
      : work(w), list(l), tile(Form == narrow_form::linear ? blockIdx.x / cluster_blocks() : blockIdx.x) {}
  __device__ bool find(narrow_place& place) {
    if constexpr (Form == narrow_form::linear) {
      if (tile == ~0u) return false;
      unsigned p = 0, before = 0;
      while (work.parts[p].end <= tile) before = work.parts[p++].end;
      place = {(tile - before) * rows_of_tile, 0, work.columns, 0, p, 0, 0, 0};
      place.cut_of(work.job.k, cluster_rank(), cluster_blocks());
      return true;
    } else {
      while (group < list.count && list.ends[group] <= tile) ++group;
      if (group == list.count) return false;
      const unsigned at = tile - (group == 0 ? 0 : list.ends[group - 1]), cuts = work.job.cuts,
                     column_tiles = (list.columns[group] + Columns - 1) / Columns,
                     of_rows = at / column_tiles;
      place = {of_rows / cuts * own_rows<Form>,
               at % column_tiles * Columns,
               list.columns[group],
               list.bases[group],
               list.planes[group],
               0,
               0,
               0};
      place.cut_of(work.job.k, of_rows % cuts, cuts);
      return true;
    }
  }
  __device__ void next() { tile = Form == narrow_form::linear ? ~0u : tile + gridDim.x; }
};

template <narrow_form Form, unsigned Columns>
__device__ void fetch_weights(const narrow_maps& maps, const narrow_memory_places& at,
                              const narrow_place& place, unsigned stage, unsigned step) {
  const unsigned to = at.shared + stage * narrow_stage<Columns>, full = at.full + 8 * stage;
  const int k = static_cast<int>(step * step_depth), row = static_cast<int>(place.row);
  arrive_with_bytes(full, narrow_stage<Columns>);
  if constexpr (Form == narrow_form::linear) {
    fetch_plane_box(to, &maps.a[place.plane], full, k, row, 0);
  } else {
    fetch_plane_box(to, &maps.a[0], full, k, row, static_cast<int>(place.plane));
    if constexpr (Form == narrow_form::gated)
      fetch_plane_box(to + weight_stage / 2, &maps.a[1], full, k, row, static_cast<int>(place.plane));
  }
}
template <unsigned Columns>
__device__ void fetch_inputs(const narrow_maps& maps, const narrow_memory_places& at,
                             const narrow_place& place, unsigned stage, unsigned step) {
  const unsigned to = at.shared + stage * narrow_stage<Columns> + weight_stage, full = at.full + 8 * stage;
  const int k = static_cast<int>(step * step_depth), column = static_cast<int>(place.base + place.column);
  fetch_box(to, &maps.x, full, k, column);
  fetch_box(to + Columns * row_bytes, &maps.x, full, k + tile_depth, column);
}

// By one thread. Weights of linear maps come before the inputs are there.
template <narrow_form Form, unsigned Columns>
__device__ void fetch_narrow(const narrow_work& work, const narrow_maps& maps, const group_list& list,
                             const narrow_memory_places& at) {
  tile_walk<Form, Columns> walk(work, list);
  narrow_place place;
  unsigned early = 0;
  if constexpr (Form == narrow_form::linear) {
    walk.find(place);
    early = min(place.end - place.first, narrow_stages<Columns>);
    for (unsigned s = 0; s < early; ++s) fetch_weights<Form, Columns>(maps, at, place, s, place.first + s);
    wait_for_inputs();
  }
  ring r;
  for (; walk.find(place); walk.next())
    for (unsigned step = place.first; step < place.end; ++step) {
      if (early == 0) {
        wait_barrier(at.empty + 8 * r.stage, r.parity ^ 1);
        fetch_weights<Form, Columns>(maps, at, place, r.stage, step);
      } else {
        --early;
      }
      fetch_inputs<Columns>(maps, at, place, r.stage, step);
      r.advance<narrow_stages<Columns>>();
    }
}

#endif

}  // namespace troupe::ops::cuda::narrow
