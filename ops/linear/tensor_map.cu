#include <cuda_runtime_api.h>

#include "ops/device/cuda_launch.cuh"
#include "ops/linear/tensor_map.hpp"
#include "ops/linear/warpgroup.cuh"

namespace troupe::ops::cuda {
namespace {

#if TROUPE_WARPGROUPS
constexpr int probe_threads = warpgroup_size;
#else
constexpr int probe_threads = warp_size;
#endif

// Its bound says which code was compiled for the device at hand.
__global__ void __launch_bounds__(probe_threads) probe() {}

// Maps of planes: copies of one with each plane's address.
__global__ void copy_maps(CUtensorMap* to, const __grid_constant__ CUtensorMap model,
                          const void* const* planes, const void* const* up_planes, unsigned count) {
#if TROUPE_WARPGROUPS
  wait_for_inputs();
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count * (up_planes == nullptr ? 1 : 2)) return;
  to[i] = model;
  const void* plane = i < count ? planes[i] : up_planes[i - count];
  asm volatile("tensormap.replace.tile.global_address.global.b1024.b64 [%0], %1;" ::"l"(to + i), "l"(plane)
               : "memory");
#endif
}

using encoder = decltype(&cuTensorMapEncodeTiled);

encoder find_encoder() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult answer{};
  const auto status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &answer);
  if (status != cudaSuccess || answer != cudaDriverEntryPointSuccess) {
    (void)cudaGetLastError();
    return nullptr;
  }
  return reinterpret_cast<encoder>(found);
}
encoder encode() {
  static const encoder found = find_encoder();
  return found;
}

bool find_warpgroups() {
  cudaFuncAttributes of_probe = {};
  if (cudaFuncGetAttributes(&of_probe, probe) != cudaSuccess) {
    (void)cudaGetLastError();
    return false;
  }
  return of_probe.maxThreadsPerBlock == warpgroup_size && encode() != nullptr;
}

}  // namespace

bool warpgroups_serve() {
  static const bool serve = find_warpgroups();
  return serve;
}

bool make_map(CUtensorMap& map, const void* data, bool int8, std::size_t rows, std::size_t columns,
              unsigned box_rows) {
  const cuuint64_t sizes[] = {columns, rows}, strides[] = {columns * (int8 ? 1 : 2)};
  const cuuint32_t box[] = {64, box_rows}, steps[] = {1, 1};
  return encode() != nullptr &&
         encode()(&map, int8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
                  const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  int8 ? CU_TENSOR_MAP_SWIZZLE_NONE : CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

bool make_plane_map(CUtensorMap& map, const void* data, std::size_t rows, std::size_t columns,
                    std::size_t planes, std::size_t stride, unsigned box_rows) {
  const cuuint64_t sizes[] = {columns, rows, planes}, strides[] = {columns, stride};
  const cuuint32_t box[] = {128, box_rows, 1}, steps[] = {1, 1, 1};
  return encode() != nullptr &&
         encode()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 3, const_cast<void*>(data), sizes, strides, box, steps,
                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

void place_maps(cudaStream_t stream, CUtensorMap* to, const CUtensorMap& model, const void* const* planes,
                const void* const* up_planes, unsigned count) {
  launch_behind(copy_maps, (2 * count + 127) / 128, 128, 0, stream, to, model, planes, up_planes, count);
}

}  // namespace troupe::ops::cuda
