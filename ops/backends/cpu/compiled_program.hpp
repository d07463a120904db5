// A Program made ready to run: weights bound, attributes read, neighbours joined, memory planned. Immutable.
//
// Joined are linear ops that follow each other and read the same tensor (query, key and value).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/program.hpp"
#include "ops/attention/attention.hpp"
#include "ops/backends/cpu/native_step.hpp"
#include "ops/device/memory_plan.hpp"
#include "ops/device/tensor.hpp"
#include "ops/elementwise/elementwise.hpp"
#include "ops/linear/linear.hpp"
#include "ops/moe/experts.hpp"
#include "ops/moe/router.hpp"
#include "ops/norm/layer_norm.hpp"
#include "ops/rope/rope.hpp"

namespace troupe::ops::cpu {

// Steps name tensors by their index in the Program.
struct embed_step {
  std::uint32_t y;
  weight_matrix table;
};
struct linear_step {
  std::uint32_t x;
  std::vector<std::uint32_t> y;
  std::vector<linear_map> maps;  // views of y are set for each run
};
// Norms see each group of columns as a row: as wide as their weight.
struct rms_norm_step {
  std::uint32_t x, y;
  weight_matrix weight;
  float eps;
};
struct layer_norm_step {
  std::uint32_t x, y;
  layer_norm_weights weights;
  float eps;
};
struct add_step {
  std::uint32_t a, b, y;
};
struct mul_step {
  std::uint32_t a, b, y;
};
struct clamp_step {
  std::uint32_t x, y;
  clamp_range range;
};
struct activation_step {
  std::uint32_t x, y;
  std::optional<std::uint32_t> factor;
  activation act;
};
struct rope_step {
  std::uint32_t x, y;
  std::size_t table;  // index in rope_tables
  rope_shape shape;
};
struct attention_step {
  std::uint32_t q, k, v, y;
  std::size_t floats_before;  // per token, of the layers that come first in a block
  attention_shape shape;
};
struct router_step {
  std::uint32_t x, weights, experts;
  router_rule rule;
};
struct experts_step {
  std::uint32_t x, weights, experts, y;
  std::vector<weight_matrix> gate, up, down;
  activation act;
};
struct select_step {
  std::uint32_t x, y;
};
struct split_step {
  std::uint32_t x;
  std::vector<std::uint32_t> y;
};
struct concat_step {
  std::vector<std::uint32_t> x;
  std::uint32_t y;
};
using step = std::variant<embed_step, linear_step, rms_norm_step, layer_norm_step, add_step, mul_step,
                          clamp_step, activation_step, rope_step, attention_step, router_step, experts_step,
                          select_step, split_step, concat_step, native_step>;

// What rope ops that rotate alike share.
struct rope_frequency_set {
  std::vector<float> frequencies;
  float amplitude = 1;

  bool operator==(const rope_frequency_set&) const = default;
};

struct named_tensor {
  std::string name;
  std::uint32_t tensor;
};

struct compiled_program {
  std::vector<step> steps;
  std::vector<rope_frequency_set> rope_tables;
  std::vector<tensor_life> tensors;  // as in the Program
  std::vector<named_tensor> probes;
  std::uint32_t logits = 0;        // tensor [R, V]
  std::size_t vocabulary = 0;      // V
  std::size_t kv_floats = 0;       // per token, over all caches and layers
  std::size_t state_floats = 0;    // per sequence: a slot; each state begins at a multiple of 16
  program::native_ops native_ops;  // what native steps point to
  memory_plan sharing;
  memory_plan separate;
};

// `weights`: one per weight of the Program, in its order; the result points into them and into `program`. `native`: of the
// module that built it.
// Errors: unsupported (an op, a cache or a dtype that this backend does not have; names the op or weight), bad_program (see
// check_native_ops).
result<compiled_program> compile(const program::Program& program,
                                 const std::vector<checkpoint::bound_weight>& weights,
                                 const program::native_ops& native);

}  // namespace troupe::ops::cpu
