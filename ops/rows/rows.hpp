// Ops that move numbers: whole rows, or columns of them.
//
//   embed        y [T, D] = table[token_t]          table [V, D] bf16, f16 or f32; tokens in [0, V)
//   select_rows  y [R, N] = x[rows_r]               x [T, N]; rows < T
//   split        y_i [T, M_i] = the next M_i columns of x [T, N]; the widths add up to N
//   concat       y [T, N] = x_0, x_1, ... side by side; their widths add up to N
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

void select_rows_ref(execution& context, activations y, const_activations x,
                     std::span<const std::uint32_t> rows);
void select_rows_cpu(execution& context, activations y, const_activations x,
                     std::span<const std::uint32_t> rows);

void split_ref(execution& context, std::span<const activations> y, const_activations x);
void split_cpu(execution& context, std::span<const activations> y, const_activations x);

void concat_ref(execution& context, activations y, std::span<const const_activations> x);
void concat_cpu(execution& context, activations y, std::span<const const_activations> x);

}  // namespace troupe::ops
