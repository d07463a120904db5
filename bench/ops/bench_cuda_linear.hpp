// Linear maps: the table of bench_cuda_ops that shows each version beside the others.
#pragma once

#include "ops/backends/cuda/gemm.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::bench {

void bench_linear(ops::cuda::gemm& library, const ops::device_limits& limits);
void bench_joined(const ops::device_limits& limits);

}  // namespace troupe::bench
