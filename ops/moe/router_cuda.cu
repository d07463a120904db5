#include "ops/device/cuda_launch.cuh"
#include "ops/device/cuda_math.cuh"
#include "ops/moe/router_cuda.hpp"

namespace troupe::ops {
namespace {

// A greater key ranks first: greater score, then lower index; not a number ranks last.
struct candidate {
  float score;
  std::int32_t index;
};
__device__ bool ranks_before(const candidate& a, const candidate& b) {
  const bool a_is_number = a.score == a.score, b_is_number = b.score == b.score;
  if (a_is_number != b_is_number) return a_is_number;
  if (a_is_number && a.score != b.score) return a.score > b.score;
  return a.index < b.index;
}
__device__ candidate best_of_warp(candidate own) {
  for (int step = cuda::warp_size / 2; step > 0; step /= 2) {
    const candidate other{__shfl_xor_sync(cuda::all_lanes, own.score, step),
                          __shfl_xor_sync(cuda::all_lanes, own.index, step)};
    if (other.index >= 0 && (own.index < 0 || ranks_before(other, own))) own = other;
  }
  return own;
}

// One warp for each row; its scores in shared memory, a taken one marked by its place in `taken`.
__global__ void route(float* weights, std::int32_t* experts, const float* x, const std::int32_t* positions,
                      unsigned width, device_router rule) {
  cuda::wait_for_inputs();
  extern __shared__ float scores[];
  bool* taken = reinterpret_cast<bool*>(scores + width);
  const unsigned lane = threadIdx.x, k = static_cast<unsigned>(rule.top_k);
  const float* from = x + std::size_t{blockIdx.x} * width;
  weights += std::size_t{blockIdx.x} * k;
  experts += std::size_t{blockIdx.x} * k;
  if (positions != nullptr && positions[blockIdx.x] < 0) {
    for (unsigned i = lane; i < k; i += cuda::warp_size) {
      weights[i] = 0;
      experts[i] = -1;
    }
    return;
  }
  float most = -INFINITY;
  for (unsigned e = lane; e < width; e += cuda::warp_size) most = fmaxf(most, from[e]);
  most = cuda::warp_max(most);
  for (unsigned e = lane; e < width; e += cuda::warp_size) {
    scores[e] = rule.sigmoid ? 1.0f / (1.0f + expf(-from[e])) : expf(from[e] - most);
    taken[e] = false;
  }
  __syncwarp();
  float sum = 0;
  for (unsigned e = 0; e < width; ++e) sum += scores[e];  // in the reference's order, by every lane
  float powers = 0;
  for (unsigned i = 0; i < k; ++i) {
    candidate best{0, -1};
    for (unsigned e = lane; e < width; e += cuda::warp_size) {
      const candidate one{scores[e], static_cast<std::int32_t>(e)};
      if (!taken[e] && (best.index < 0 || ranks_before(one, best))) best = one;
    }
    best = best_of_warp(best);
    const float score = rule.sigmoid ? best.score : best.score / sum;
    powers += rule.norm_power == 1 ? score : powf(score, rule.norm_power);
    if (lane == 0) {
      taken[best.index] = true;
      experts[i] = best.index;
      weights[i] = score;
    }
    __syncwarp();
  }
  const float norm = !rule.normalize ? 1 : rule.norm_power == 1 ? powers : powf(powers, 1 / rule.norm_power);
  __syncwarp();
  if (lane == 0)
    for (unsigned i = 0; i < k; ++i) weights[i] = weights[i] / norm * rule.scale;
}

}  // namespace

void router_cuda(cudaStream_t stream, device_floats weights, device_rows<std::int32_t> experts,
                 device_inputs x, const std::int32_t* positions, const device_router& rule) {
  if (x.rows == 0) return;
  const std::size_t shared = x.width * (sizeof(float) + sizeof(bool));
  cuda::launch_behind(route, static_cast<unsigned>(x.rows), cuda::warp_size, shared, stream, weights.data,
                      experts.data, x.data, positions, static_cast<unsigned>(x.width), rule);
}

}  // namespace troupe::ops
