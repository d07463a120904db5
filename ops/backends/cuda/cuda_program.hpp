// A Program made ready to run on a CUDA device: a list of launches, with weights placed and memory planned.
//
// Joined are linear ops that follow each other and read the same tensor. The logits that a router reads are computed in f32.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/native_ops.hpp"
#include "kernel/program/program.hpp"
#include "ops/backends/cuda/step_frame.hpp"
#include "ops/backends/cuda/weight_store.hpp"
#include "ops/device/memory_plan.hpp"

namespace troupe::ops::cuda {

struct cuda_op {
  std::string where;  // "op 12 (attention, model.layers.1)"
  std::function<result<void>(const step_frame&)> launch;
};

struct rope_frequency_set {
  std::vector<float> frequencies;
  float amplitude = 1;
  bool operator==(const rope_frequency_set&) const = default;
};

struct named_tensor {
  std::string name;
  std::uint32_t tensor;
};

struct cuda_program {
  program::native_ops native_ops;  // keeps the module that native launches call; outlives them
  std::vector<cuda_op> ops;
  std::vector<rope_frequency_set> rope_tables;
  std::vector<tensor_life> tensors;
  std::vector<named_tensor> probes;
  std::vector<std::size_t> routers;  // experts of each
  std::size_t expert_marks = 0;      // of all together
  std::vector<std::size_t> states;   // of native ops: where each begins in a slot, in floats
  std::uint32_t logits = 0;
  std::size_t vocabulary = 0;
  std::size_t kv_numbers = 0;                // per token, bf16
  std::size_t state_floats = 0;              // per sequence
  std::vector<std::uint32_t> windows;        // of attention, each once
  std::uint32_t tile_tokens = tile_queries;  // rows of a prefill tile; 0 = tiles don't serve every attention
  std::uint32_t context_tokens = 0;
  // Bytes of workspace that the ops need at most for T rows, S sequences and `parts` decode parts.
  std::vector<std::function<std::size_t(std::size_t rows, std::size_t sequences, std::size_t parts)>>
      workspaces;
  memory_plan sharing;
  memory_plan separate;
};

// Where K/V stand: known when the pool and the model's tokens per block are.
struct kv_places {
  __nv_bfloat16* pool = nullptr;
  std::size_t block_stride = 0;  // numbers
  std::uint32_t block_tokens = 0;
};

// `kv`: filled in by the caller before the first step; lives as long as the result, like `program` and `native`.
// Errors: unsupported (op, dtype, head size), bad_program (see check_native_ops; a native op without a CUDA body).
result<cuda_program> compile(const program::Program& program,
                             const std::vector<checkpoint::bound_weight>& bound, weight_store& weights,
                             const program::native_ops& native, const kv_places& kv);

}  // namespace troupe::ops::cuda
