// Whole decoder layers (attention, mixture of experts, all that stands between) in decode, as one graph each.
#pragma once

#include "ops/backends/cuda/gemm.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::bench {

// Layers of Mixtral's and DBRX's shape for 1 to 64 sequences: a row each.
void bench_layers(ops::cuda::gemm& library, const ops::device_limits& limits, bool int8);

}  // namespace troupe::bench
