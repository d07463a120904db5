// Ops that move whole rows or add them up.
//
//   embed        y [T, D] = table[token_t]          table [V, D] bf16, f16 or f32; tokens in [0, V)
//   add          y [T, N] = a + b                   y may be a or b
//   select_rows  y [R, N] = x[rows_r]               x [T, N]; rows < T
#pragma once

#include <cstdint>
#include <span>

#include "ops/device/execution.hpp"
#include "ops/device/tensor.hpp"

namespace troupe::ops {

void embed_ref(execution& context, activations y, std::span<const std::int32_t> tokens,
               const weight_matrix& table);
void embed_cpu(execution& context, activations y, std::span<const std::int32_t> tokens,
               const weight_matrix& table);

void add_ref(execution& context, activations y, const_activations a, const_activations b);
void add_cpu(execution& context, activations y, const_activations a, const_activations b);

void select_rows_ref(execution& context, activations y, const_activations x,
                     std::span<const std::uint32_t> rows);
void select_rows_cpu(execution& context, activations y, const_activations x,
                     std::span<const std::uint32_t> rows);

}  // namespace troupe::ops
