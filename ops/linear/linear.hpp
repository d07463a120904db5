// y [T, M] = x [T, N] · wᵀ + bias        w [M, N], bias [M] or absent; bf16, f16 or f32 as stored; y, x f32
//
// Several linear maps of the same x are one call, so that small ones fill the cores together. Accumulates in
// f32. An element's operations depend on x's row and w's row alone: not on T, on other rows or on threads.
#pragma once

#include <span>

#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

struct linear_map {
  weight_matrix weight;  // [M, N]
  weight_matrix bias;    // 1 row of [M]; data null = none
  activations y;         // [T, M]
};

void linear_ref(execution& context, const_activations x, std::span<const linear_map> maps);
void linear_cpu(execution& context, const_activations x, std::span<const linear_map> maps);

}  // namespace troupe::ops
