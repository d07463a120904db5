// The weighted sum of values so far, of one head.
#pragma once

#include "ops/device/cuda_math.cuh"

namespace troupe::ops::cuda {

// Numbers `sum`, each to be divided by `total`; weights are relative to e^most.
template <int Numbers>
struct running {
  float most = -INFINITY, total = 0, sum[Numbers] = {};

  __device__ void join(float other_most, float other_total, const float (&other)[Numbers]) {
    const float both = fmaxf(most, other_most);
    if (both == -INFINITY) return;
    const float own = expf(most - both), theirs = expf(other_most - both);
    most = both;
    total = total * own + other_total * theirs;
#pragma unroll
    for (int i = 0; i < Numbers; ++i) sum[i] = sum[i] * own + other[i] * theirs;
  }
};

}  // namespace troupe::ops::cuda
