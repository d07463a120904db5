// Prefill tiles on Hopper's warpgroups: the same rows and formulas as attend_tiles_cuda, which calls this where it serves.
#pragma once

#include "ops/attention/attention_cuda.hpp"

namespace troupe::ops {

// Heads of 128 numbers without window and cap, on a device that has them.
bool wide_attention_serves(const device_attention& shape, const device_kv& cache);

void attend_wide_cuda(cudaStream_t stream, device_floats y, device_inputs q, const device_kv& cache,
                      const device_tables& tables, const device_attention& shape, std::size_t tile_count);

}  // namespace troupe::ops
