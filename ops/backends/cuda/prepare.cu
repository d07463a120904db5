#include "ops/backends/cuda/prepare.hpp"

namespace troupe::ops::cuda {
namespace {

__global__ void resolve(std::int32_t* ids, const std::int32_t* sources, const std::int32_t* earlier,
                        std::size_t tokens) {
  const std::size_t t = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (t >= tokens || sources[t] < 0) return;
  const std::int32_t token = earlier[sources[t]];
  ids[t] = token < 0 ? 0 : token;
}

__global__ void point(float** const* tables, float* base, const std::uint32_t* slots, std::size_t stride,
                      const std::size_t* starts, unsigned sequences) {
  for (unsigned s = threadIdx.x; s < sequences; s += blockDim.x)
    tables[blockIdx.x][s] = base + slots[s] * stride + starts[blockIdx.x];
}

__global__ void mark(std::uint32_t* marks, const std::int32_t* chosen, std::size_t count) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count && chosen[i] >= 0) marks[chosen[i]] = 1;
}

}  // namespace

void mark_chosen(cudaStream_t stream, std::uint32_t* marks, const std::int32_t* chosen, std::size_t count) {
  if (count > 0) mark<<<static_cast<unsigned>((count + 255) / 256), 256, 0, stream>>>(marks, chosen, count);
}

void resolve_tokens(cudaStream_t stream, std::int32_t* ids, const std::int32_t* sources,
                    const std::int32_t* earlier, std::size_t tokens) {
  if (tokens > 0)
    resolve<<<static_cast<unsigned>((tokens + 127) / 128), 128, 0, stream>>>(ids, sources, earlier, tokens);
}

void point_to_states(cudaStream_t stream, float** const* tables, float* base, const std::uint32_t* slots,
                     std::size_t stride, const std::size_t* starts, std::size_t count,
                     std::size_t sequences) {
  if (count > 0)
    point<<<static_cast<unsigned>(count), 64, 0, stream>>>(tables, base, slots, stride, starts,
                                                           static_cast<unsigned>(sequences));
}

}  // namespace troupe::ops::cuda
