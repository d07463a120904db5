// From a Program to the launches that run it, op by op.
#pragma once

#include <set>

#include "kernel/program/names.hpp"
#include "ops/activation/activation_kind.hpp"
#include "ops/backends/cuda/cuda_program.hpp"
#include "ops/backends/cuda/linear_group.hpp"

namespace troupe::ops::cuda {

activation to_activation(program::Activation kind);

class program_compiler {
 public:
  program_compiler(const program::Program& program, const std::vector<checkpoint::bound_weight>& bound,
                   weight_store& weights, const program::native_ops& native, const kv_places& kv)
      : program_(program), bound_(bound), weights_(weights), native_(native), kv_(kv) {
    out_.native_ops = native;
  }

  result<cuda_program> run();

 private:
  result<void> check_weights() const;

  result<void> place_caches();
  static std::size_t layer_floats(const program::Cache& cache) {
    std::size_t floats = 1;
    for (const std::uint64_t size : *cache.shape()) floats *= size;
    return (floats + 15) / 16 * 16;
  }

  operand of(std::uint32_t tensor) const {
    return {tensor, out_.tensors[tensor].width, out_.tensors[tensor].logit_rows};
  }
  operand input(const program::Op& op, unsigned i) const { return of(op.inputs()->Get(i)); }
  operand output(const program::Op& op, unsigned i) const { return of(op.outputs()->Get(i)); }
  std::vector<operand> all(const flatbuffers::Vector<std::uint32_t>* tensors) const {
    std::vector<operand> found;
    for (const std::uint32_t tensor : program::values(tensors)) found.push_back(of(tensor));
    return found;
  }
  static std::uint32_t weight(const program::Op& op, unsigned i) { return op.weights()->Get(i); }
  const float* bias(const program::Op& op) {
    return op.weights()->size() > 1 ? weights_.vector(weight(op, 1)) : nullptr;
  }

  template <class Launch>
  void push(const program::Op& op, Launch launch) {
    close_linear();
    out_.ops.push_back({place_of(op), [launch](const step_frame& f) -> result<void> {
                          launch(f);
                          return {};
                        }});
  }
  std::string place_of(const program::Op& op) const {
    return fmt::format("op {} ({}, {})", index_, program::name_of(op.kind()),
                       op.scope() == nullptr ? "" : op.scope()->str());
  }

  result<void> add(const program::Op& op);

  // A norm of the sum that the launch before makes becomes one launch with it.
  void add_norm(const program::Op& op);

  void add_linear(const program::Op& op);
  void close_linear();

  void add_rope(const program::Op& op);

  result<void> add_attention(const program::Op& op);

  void add_router(const program::Op& op);

  result<void> add_experts(const program::Op& op);

  result<void> add_native(const program::Op& op);

  void list_tensors();

  // Lives count in launches, not in ops: a joined one writes all its tensors at once. Open linear maps will be the next launch.
  void note_lives(const program::Op& op);

  void place_results();

  const program::Program& program_;
  const std::vector<checkpoint::bound_weight>& bound_;
  weight_store& weights_;
  const program::native_ops& native_;
  const kv_places& kv_;
  cuda_program out_;
  std::vector<std::size_t> cache_starts_;
  std::set<std::uint32_t> routed_;  // tensors that a router reads
  linear_group linear_;             // not yet pushed
  struct {
    std::size_t launch = 0;  // launches up to it
    operand a, b, y;
  } sum_;  // the last add
  std::string linear_where_;
  std::uint32_t index_ = 0;
};

}  // namespace troupe::ops::cuda
