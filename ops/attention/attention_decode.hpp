// Parts of rows that are alone in their sequences, on the tensor cores: what attend_alone_cuda calls where it serves.
#pragma once

#include "ops/attention/attention_cuda.hpp"

namespace troupe::ops {

// Heads of 64 or 128 numbers.
bool decode_tiles_serve(const device_attention& shape, const device_kv& cache);

// Every part to `partials`, or to y where a row has only one. Weights enter as two bf16 numbers each, so that nothing is lost by it.
void attend_parts_tiles(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                        const device_tables& tables, const device_attention& shape, std::size_t part_limit,
                        float* partials, const device_limits& limits);

}  // namespace troupe::ops
