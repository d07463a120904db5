// A Program made ready to run: weights bound, attributes read, neighbours joined, memory planned. Immutable.
//
// Joined are linear ops that follow each other and read the same tensor (query, key and value).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/program.hpp"
#include "ops/attention/attention.hpp"
#include "ops/backends/cpu/memory_plan.hpp"
#include "ops/backends/cpu/native_step.hpp"
#include "ops/device/tensor.hpp"
#include "ops/linear/linear.hpp"
#include "ops/moe/experts.hpp"
#include "ops/moe/router.hpp"
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
struct norm_step {
  std::uint32_t x, y;
  weight_matrix weight;
  float eps;
};
struct add_step {
  std::uint32_t a, b, y;
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
using step = std::variant<embed_step, linear_step, norm_step, add_step, rope_step, attention_step,
                          router_step, experts_step, select_step, native_step>;

// What rope ops of equal theta and rotary_dim share.
struct rope_frequency_set {
  double theta = 0;
  std::size_t rotary_dim = 0;
  std::vector<float> frequencies;
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
