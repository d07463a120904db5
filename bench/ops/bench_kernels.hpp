// Kernels of the benchmark itself. On the default stream.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troupe::bench {

// Random bf16 numbers of magnitude 2^-7, of either sign.
void fill_bf16(std::uint32_t* to, std::size_t words, std::uint32_t seed);

// Reads all of it once; writes nothing that matters.
void read_all(const std::uint32_t* from, std::size_t bytes, unsigned* out, int processors);

}  // namespace troupe::bench
