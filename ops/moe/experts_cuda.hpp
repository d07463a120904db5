// experts on a CUDA device; see experts.hpp. Dropless; of the weights only the chosen experts' are read.
//
// The (row, expert) pairs are sorted by expert, rows ascending within one. For at most few_rows rows there are kernels that
// read each chosen expert once for all its rows; above, tensor-core tiles over the groups (ops/linear/matmul_tile.cuh), and for long
// groups the wide ones of Hopper (ops/linear/wide_tile.hpp); with int8 Hopper's narrow ones (ops/linear/narrow_tile.hpp) from one row on. In each a row's result depends on the row and its experts alone, and
// experts are added in ascending order. Between the two halves an expert's hidden numbers are rounded to bf16.
#pragma once

#include "ops/activation/activation_kind.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

// Planes on the device: E pointers to [F, D], [F, D], [D, F]; bf16, or int8 with the scales of their rows.
struct device_experts {
  const void* const* gate = nullptr;
  const void* const* up = nullptr;
  const void* const* down = nullptr;
  const float* const* gate_scales = nullptr;  // null = bf16
  const float* const* up_scales = nullptr;
  const float* const* down_scales = nullptr;
  std::size_t experts = 0;  // E
  std::size_t hidden = 0;   // F
  activation act = activation::silu;
  std::size_t wide_from =
      24;  // rows that an expert has on average from which on wide tiles are used, where they serve
  // The same planes, if each kind of them is a stack: int8 of few rows wants them so.
  device_stack gate_stack, up_stack, down_stack;
};

// Bytes of workspace for T rows of D numbers and k experts each; aligned to 256.
std::size_t experts_workspace(std::size_t rows, std::size_t width, std::size_t top_k,
                              const device_experts& mlp);

// experts [T, k] distinct within a row, k at most 256; -1 = none (rows that fill up a captured batch).
void experts_cuda(cudaStream_t stream, device_floats y, device_inputs x, device_inputs weights,
                  device_rows<const std::int32_t> experts, const device_experts& mlp, void* workspace,
                  const device_limits& limits);

}  // namespace troupe::ops
