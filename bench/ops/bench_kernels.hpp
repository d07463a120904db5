// Kernels of the benchmark itself.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace troupe::bench {

// Random bf16 numbers of magnitude 2^-7, of either sign. On the default stream.
void fill_bf16(std::uint32_t* to, std::size_t words, std::uint32_t seed);

// Reads all of it once; writes nothing that matters.
void read_all(const std::uint32_t* from, std::size_t bytes, unsigned* out, int processors,
              cudaStream_t stream);

}  // namespace troupe::bench
