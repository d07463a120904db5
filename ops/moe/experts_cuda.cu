#include <algorithm>

#include "ops/linear/linear_cuda.hpp"
#include "ops/linear/matmul_tile.cuh"
#include "ops/linear/narrow_tile.hpp"
#include "ops/linear/stored.cuh"
#include "ops/linear/wide_tile.hpp"
#include "ops/moe/experts_cuda.hpp"
#include "ops/moe/experts_few.hpp"
#include "ops/moe/experts_order.hpp"

namespace troupe::ops {
namespace {

constexpr std::size_t cut_rows = 8;  // at most so many rows have their second half cut

struct parts {
  expert_order order;
  __nv_bfloat16* x;       // [T, D]; wide and narrow: [P, D], in the order of pairs
  __nv_bfloat16* hidden;  // [P, F]
  float* out;             // [cuts, P, D]
  unsigned cuts;          // narrow: of the second half's sums
  void* maps;             // wide
};

bool runs_wide(std::size_t rows, std::size_t width, std::size_t top_k, const device_experts& mlp) {
  return rows * top_k >= mlp.wide_from * mlp.experts && cuda::wide_tiles_serve(mlp.hidden, width) &&
         cuda::wide_tiles_serve(width, mlp.hidden);
}

bool runs_narrow(std::size_t rows, std::size_t width, std::size_t top_k, const device_experts& mlp) {
  return rows * top_k < mlp.wide_from * mlp.experts && mlp.gate_scales != nullptr &&
         mlp.gate_stack.data != nullptr && mlp.experts <= cuda::narrow_groups &&
         cuda::narrow_tiles_serve(width) && cuda::narrow_tiles_serve(mlp.hidden);
}

// Cuts keep blocks busy where few experts have rows; with many they only bring sums to be added.
unsigned cuts_of_down(std::size_t rows, const device_experts& mlp) {
  return rows <= cut_rows && mlp.hidden >= 1024 ? most_cuts : 1;
}

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// Lays the parts out behind `base` and answers their size.
std::size_t lay_out(char* base, std::size_t rows, std::size_t width, std::size_t top_k,
                    const device_experts& mlp, parts& out) {
  std::size_t at = 0;
  const auto take = [&]<class T>(T*& p, std::size_t count) {
    p = reinterpret_cast<T*>(base + at);
    at += round_up(count * sizeof(T));
  };
  const std::size_t pairs = rows * top_k;
  take(out.order.group_count, 1);
  take(out.order.groups, mlp.experts);
  take(out.order.offsets, mlp.experts);
  take(out.order.counts, mlp.experts);
  take(out.order.rows, pairs);
  take(out.order.choices, pairs);
  take(out.order.places, pairs);
  const bool narrow = runs_narrow(rows, width, top_k, mlp), wide = runs_wide(rows, width, top_k, mlp);
  out.cuts = narrow ? cuts_of_down(rows, mlp) : 1;
  take(out.x, (wide || narrow ? pairs : rows) * width);
  take(out.hidden, pairs * mlp.hidden);
  take(out.out, pairs * width * out.cuts);
  char* maps = nullptr;
  take(maps, wide ? cuda::wide_map_bytes(mlp.experts) : 0);
  out.maps = maps;
  return at;
}

// Whether the streaming kernels are the faster ones: with int8 conversion holds them back from three rows on, else what they keep of the
// rows in shared memory.
bool streams(std::size_t rows, std::size_t width, bool int8) {
  return rows <= 2 || (!int8 && rows <= few_rows && cuda::chunk_numbers(width, few_rows) >= width);
}

void run_tiles(cudaStream_t stream, device_floats y, device_inputs x, device_inputs weights,
               device_rows<const std::int32_t> experts, const device_experts& mlp, const parts& p,
               const device_limits& limits) {
  sort_pairs_cuda(stream, p.order, experts, mlp.experts);
  to_bf16_cuda(stream, p.x, x, mlp.gate_scales != nullptr);
  const std::size_t pairs = experts.rows * experts.width, groups = std::min(mlp.experts, pairs);
  cuda::tile_job job;
  job.planes = mlp.gate;
  job.up_planes = mlp.up;
  job.scales = mlp.gate_scales;
  job.up_scales = mlp.up_scales;
  job.b = p.x;
  job.b_rows = p.order.rows;
  job.hidden = p.hidden;
  job.groups = p.order.groups;
  job.offsets = p.order.offsets;
  job.counts = p.order.counts;
  job.group_count = p.order.group_count;
  job.m = static_cast<unsigned>(mlp.hidden);
  job.k = static_cast<unsigned>(x.width);
  job.act = mlp.act;
  cuda::launch_tiles<cuda::tile_form::gated>(stream, job, groups, pairs, limits);
  job.planes = mlp.down;
  job.scales = mlp.down_scales;
  job.b = p.hidden;
  job.b_rows = nullptr;
  job.y = p.out;
  job.m = static_cast<unsigned>(x.width);
  job.k = static_cast<unsigned>(mlp.hidden);
  cuda::launch_tiles<cuda::tile_form::grouped>(stream, job, groups, pairs, limits);
  combine_cuda(stream, y, p.order, {p.out, p.cuts}, weights, experts);
}

bool run_narrow(cudaStream_t stream, device_floats y, device_inputs x, device_inputs weights,
                device_rows<const std::int32_t> experts, const device_experts& mlp, const parts& p,
                const device_limits& limits) {
  const std::size_t pairs = experts.rows * experts.width, groups = std::min(mlp.experts, pairs);
  cuda::narrow_job job;
  job.planes = mlp.gate_stack;
  job.up_planes = mlp.up_stack;
  job.scales = mlp.gate_scales;
  job.up_scales = mlp.up_scales;
  job.x = p.x;
  job.hidden = p.hidden;
  job.groups = p.order.groups;
  job.offsets = p.order.offsets;
  job.counts = p.order.counts;
  job.group_count = p.order.group_count;
  job.plane_count = static_cast<unsigned>(mlp.experts);
  job.m = static_cast<unsigned>(mlp.hidden);
  job.k = static_cast<unsigned>(x.width);
  job.act = mlp.act;
  sort_and_gather_cuda(stream, p.order, p.x, x, experts, mlp.experts);
  if (!cuda::launch_narrow(stream, cuda::narrow_form::gated, job, groups, pairs, limits)) return false;
  job.planes = mlp.down_stack;
  job.scales = mlp.down_scales;
  job.x = p.hidden;
  job.y = p.out;
  job.cuts = p.cuts;
  job.cut_stride = pairs * x.width;
  job.m = static_cast<unsigned>(x.width);
  job.k = static_cast<unsigned>(mlp.hidden);
  if (!cuda::launch_narrow(stream, cuda::narrow_form::grouped, job, groups, pairs, limits)) return false;
  combine_cuda(stream, y, p.order, {p.out, p.cuts}, weights, experts);
  return true;
}

bool run_wide(cudaStream_t stream, device_floats y, device_inputs x, device_inputs weights,
              device_rows<const std::int32_t> experts, const device_experts& mlp, const parts& p,
              const device_limits& limits) {
  sort_pairs_cuda(stream, p.order, experts, mlp.experts);
  const std::size_t pairs = experts.rows * experts.width;
  cuda::wide_job job;
  job.planes = mlp.gate;
  job.up_planes = mlp.up;
  job.scales = mlp.gate_scales;
  job.up_scales = mlp.up_scales;
  job.x = p.x;
  job.hidden = p.hidden;
  job.groups = p.order.groups;
  job.offsets = p.order.offsets;
  job.counts = p.order.counts;
  job.group_count = p.order.group_count;
  job.maps = p.maps;
  job.plane_count = static_cast<unsigned>(mlp.experts);
  job.m = static_cast<unsigned>(mlp.hidden);
  job.k = static_cast<unsigned>(x.width);
  job.act = mlp.act;
  gather_cuda(stream, p.order, p.x, x, pairs, job.int8());
  if (!cuda::launch_wide(stream, cuda::wide_form::gated, job, pairs, limits)) return false;
  job.planes = mlp.down;
  job.scales = mlp.down_scales;
  job.x = p.hidden;
  job.y = p.out;
  job.m = static_cast<unsigned>(x.width);
  job.k = static_cast<unsigned>(mlp.hidden);
  if (!cuda::launch_wide(stream, cuda::wide_form::plain, job, pairs, limits)) return false;
  combine_cuda(stream, y, p.order, {p.out, p.cuts}, weights, experts);
  return true;
}

}  // namespace

std::size_t experts_workspace(std::size_t rows, std::size_t width, std::size_t top_k,
                              const device_experts& mlp) {
  parts ignored;  // cut ones may want more than more rows that are not
  return std::max(lay_out(nullptr, rows, width, top_k, mlp, ignored),
                  lay_out(nullptr, std::min(rows, cut_rows), width, top_k, mlp, ignored));
}

void experts_cuda(cudaStream_t stream, device_floats y, device_inputs x, device_inputs weights,
                  device_rows<const std::int32_t> experts, const device_experts& mlp, void* workspace,
                  const device_limits& limits) {
  if (x.rows == 0) return;
  parts p;
  lay_out(static_cast<char*>(workspace), x.rows, x.width, experts.width, mlp, p);
  if (runs_narrow(x.rows, x.width, experts.width, mlp) &&
      run_narrow(stream, y, x, weights, experts, mlp, p, limits))
    return;
  p.cuts = 1;
  if (runs_wide(x.rows, x.width, experts.width, mlp) &&
      run_wide(stream, y, x, weights, experts, mlp, p, limits))
    return;
  const bool int8 = mlp.gate_scales != nullptr;
  const std::size_t load = int8 ? cuda::tile_depth : 8;
  if (!streams(x.rows, std::max(x.width, mlp.hidden), int8) && x.width % load == 0 && mlp.hidden % load == 0)
    return run_tiles(stream, y, x, weights, experts, mlp, p, limits);
  const std::size_t k = experts.width, slice = std::clamp<std::size_t>(few_pairs / k, 1, few_rows);
  for (std::size_t first = 0; first < x.rows; first += slice) {
    const std::size_t rows = std::min(slice, x.rows - first);
    experts_few(stream, {y.data + first * x.width, rows, x.width}, {x.data + first * x.width, rows, x.width},
                weights.data + first * k, {experts.data + first * k, rows, k}, mlp, p.hidden, limits);
  }
}

}  // namespace troupe::ops
