// Launches that begin while the kernel before them in the stream still ends (programmatic dependent launch, compute capability 9.0;
// elsewhere plain launches). In a captured graph they stay what they are.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace troupe::ops::cuda {

// The first thing that every kernel launched by launch_behind does, before it touches what another kernel writes or reads: until
// all earlier work of the stream is done. What comes before it in a kernel may read weights. Then the next kernel may come.
__device__ inline void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Whether the device at hand has them; asked once.
inline bool launches_overlap() {
  static const bool overlap = [] {
    int device = 0, major = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
           major >= 9;
  }();
  return overlap;
}

// `cluster`: so many blocks side by side are on the device together and reach each other's shared memory (9.0).
template <class... Parameters, class... Arguments>
void launch_clusters_behind(unsigned cluster, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                            std::size_t shared, cudaStream_t stream, Arguments&&... arguments) {
  if (shared > (std::size_t{32} << 10))  // with what a kernel has of its own it may pass 48 KiB
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = attributes;
  if (launches_overlap()) {
    auto& behind = attributes[config.numAttrs++];
    behind.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    behind.val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    auto& together = attributes[config.numAttrs++];
    together.id = cudaLaunchAttributeClusterDimension;
    together.val.clusterDim.x = cluster;
    together.val.clusterDim.y = together.val.clusterDim.z = 1;
  }
  cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...);
}

template <class... Parameters, class... Arguments>
void launch_behind(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
                   cudaStream_t stream, Arguments&&... arguments) {
  launch_clusters_behind(1, kernel, grid, block, shared, stream, std::forward<Arguments>(arguments)...);
}

}  // namespace troupe::ops::cuda
