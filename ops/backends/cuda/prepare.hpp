// What the device does at the head of a step.
#pragma once

#include "ops/device/cuda_view.hpp"

namespace troupe::ops::cuda {

// ids[t] = earlier[sources[t]] where sources[t] >= 0. A token that was not chosen (-1) becomes 0: its sequence has ended, and what is
// computed for it is dropped.
void resolve_tokens(cudaStream_t stream, std::int32_t* ids, const std::int32_t* sources,
                    const std::int32_t* earlier, std::size_t tokens);

// tables[i][s] = base + slots[s] · stride + starts[i] for `count` states of S sequences; arrays on the device.
void point_to_states(cudaStream_t stream, float** const* tables, float* base, const std::uint32_t* slots,
                     std::size_t stride, const std::size_t* starts, std::size_t count, std::size_t sequences);

// marks[chosen[i]] = 1 for each of `count` that is not negative.
void mark_chosen(cudaStream_t stream, std::uint32_t* marks, const std::int32_t* chosen, std::size_t count);

}  // namespace troupe::ops::cuda
