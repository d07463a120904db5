#include <algorithm>

#include "ops/linear/narrow_multiply.cuh"

namespace troupe::ops::cuda {
namespace {

using namespace narrow;

template <narrow_form Form, unsigned Columns>
__global__ void __launch_bounds__(narrow_threads, narrow_blocks<Columns>)
    narrow_tiles(const __grid_constant__ narrow_work work, const __grid_constant__ narrow_maps maps) {
#if TROUPE_WARPGROUPS
  extern __shared__ char unaligned[];
  constexpr unsigned stages = narrow_stages<Columns>;
  __shared__ __align__(8) std::uint64_t barriers[2 * stages];
  __shared__ group_list list;
  const unsigned begin = shared_address(unaligned), shared = (begin + 1023) / 1024 * 1024;
  const narrow_memory_places at{shared, shared_address(barriers), shared_address(barriers + stages),
                                unaligned + (shared - begin)};
  if (threadIdx.x == workers) expect_map(&maps.x);
  if (threadIdx.x == 0) {
    for (unsigned s = 0; s < stages; ++s) {
      make_barrier(at.full + 8 * s, 1);
      make_barrier(at.empty + 8 * s, worker_warps);
    }
    publish_barriers();
  }
  __syncthreads();
  if constexpr (Form != narrow_form::linear) {
    wait_for_inputs();
    list_groups<Form, Columns>(work.job, list);
  }
  if (threadIdx.x >= workers) {
    if (threadIdx.x == workers) fetch_narrow<Form, Columns>(work, maps, list, at);
    return;
  }
  if constexpr (Form == narrow_form::linear) wait_for_inputs();
  work_narrow<Form, Columns>(work, list, at);
#endif
}

// Calls `go` with the columns of a tile as a template argument.
template <class Go>
bool with_columns(std::size_t wanted, const Go& go) {
  if (wanted <= 8) return go.template operator()<8>();
  if (wanted <= 16) return go.template operator()<16>();
  if (wanted <= 24) return go.template operator()<24>();
  if (wanted <= 32) return go.template operator()<32>();
  if (wanted <= 64) return go.template operator()<64>();
  return go.template operator()<128>();
}

// Columns of a tile for groups of so many on average: most of them fit.
std::size_t tile_columns(std::size_t average) {
  return average <= 4    ? 8
         : average <= 9  ? 16
         : average <= 16 ? 24
         : average <= 22 ? 32
         : average <= 50 ? 64
                         : 128;
}

// Blocks that share a tile of linear maps with so many tiles.
unsigned cluster_for(unsigned tiles, unsigned steps, const device_limits& limits) {
  const unsigned places = static_cast<unsigned>(limits.processors) * 2;
  unsigned cluster = 1;
  while (cluster < most_cluster && tiles * cluster * 2 <= places && steps >= cluster * 4) cluster *= 2;
  return cluster;
}

}  // namespace

bool narrow_tiles_serve(std::size_t k) {
  return warpgroups_serve() && k > 0 && k % tile_depth == 0;
}

bool launch_narrow(cudaStream_t stream, narrow_form form, const narrow_job& job, std::size_t groups,
                   std::size_t columns, const device_limits& limits) {
  if (columns == 0) return true;
  const bool gated = form == narrow_form::gated;
  narrow_work work = {};
  work.job = job;
  narrow_maps maps;
  const unsigned box = gated ? rows_of_tile / 2 : rows_of_tile;
  const auto map = [&](CUtensorMap& to, const device_stack& planes) {
    return make_plane_map(to, planes.data, job.m, job.k, job.plane_count, planes.stride, box);
  };
  if (!map(maps.a[0], job.planes) || (gated && !map(maps.a[1], job.up_planes))) return false;
  return with_columns(tile_columns((columns + groups - 1) / groups), [&]<unsigned Columns>() {
    if (!make_map(maps.x, job.x, false, columns, job.k, Columns)) return false;
    const auto launch = [&](auto kernel) {
      const std::size_t tiles = (columns / Columns + groups) * ((job.m + box - 1) / box) * job.cuts,
                        places = static_cast<std::size_t>(limits.processors) * narrow_blocks<Columns>;
      launch_behind(kernel, static_cast<unsigned>(std::min(tiles, places)), narrow_threads,
                    narrow_memory<Columns>, stream, work, maps);
    };
    if (gated)
      launch(narrow_tiles<narrow_form::gated, Columns>);
    else
      launch(narrow_tiles<narrow_form::grouped, Columns>);
    return true;
  });
}

bool launch_narrow(cudaStream_t stream, device_rows<const __nv_bfloat16> x,
                   std::span<const device_linear> linear, const device_limits& limits) {
  if (x.rows == 0) return true;
  narrow_work work = {};
  work.job.k = static_cast<unsigned>(x.width);
  work.columns = static_cast<unsigned>(x.rows);
  narrow_maps maps;
  unsigned tiles = 0;
  for (std::size_t i = 0; i < linear.size(); ++i) {
    const auto& w = linear[i].weight;
    if (!make_plane_map(maps.a[i], w.data, w.rows, w.columns, 1, w.rows * w.columns, rows_of_tile))
      return false;
    tiles += (static_cast<unsigned>(w.rows) + rows_of_tile - 1) / rows_of_tile;
    work.parts[i] = {w.scales, linear[i].bias, linear[i].y.data, static_cast<unsigned>(w.rows), tiles};
  }
  const unsigned cluster = cluster_for(tiles, (work.job.k + step_depth - 1) / step_depth, limits);
  return with_columns(x.rows, [&]<unsigned Columns>() {
    if (!make_map(maps.x, x.data, false, x.rows, x.width, Columns)) return false;
    launch_clusters_behind(cluster, narrow_tiles<narrow_form::linear, Columns>, tiles * cluster,
                           narrow_threads, narrow_memory<Columns>, stream, work, maps);
    return true;
  });
}

}  // namespace troupe::ops::cuda
