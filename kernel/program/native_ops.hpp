// A module's native ops and their uses in a Program, in the form of the module ABI (kernel/abi/troupe/module.h).
//
// The verifier cannot know what a native op takes and gives: check_native_ops() asks the op itself. It runs wherever a
// Program and its module are at hand: when the module has built it, and when a backend compiles it.
#pragma once

#include <troupe/module.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/program/program.hpp"

namespace troupe::program {

// The native ops that a module brings along. Keeps the module's library mapped while a copy lives. Any thread.
class native_ops {
 public:
  native_ops() = default;  // none
  // `ops` point into `library`; the caller has checked their tables.
  native_ops(std::vector<const troupe_native_op*> ops, std::shared_ptr<const void> library)
      : ops_(std::move(ops)), library_(std::move(library)) {}

  const troupe_native_op* find(std::string_view name, std::uint32_t version) const;  // null: no such op
  std::span<const troupe_native_op* const> all() const { return ops_; }

 private:
  std::vector<const troupe_native_op*> ops_;
  std::shared_ptr<const void> library_;
};

// One use of a native op, with what its table points to. What only a step or a checkpoint knows is empty until it is filled in.
// One thread.
class native_use {
 public:
  // `program` outlives it.
  native_use(const Program& program, const Op& op);
  native_use(const native_use&) = delete;  // table() points to itself
  native_use& operator=(const native_use&) = delete;

  const troupe_native_use& table() const { return table_; }
  std::span<troupe_tensor> inputs() { return inputs_; }
  std::span<troupe_tensor> outputs() { return outputs_; }
  std::span<troupe_weight> weights() { return weights_; }

  // What the op has said by fail() since the last call, fit for logs, terminals and JSON.
  std::string take_problem() { return std::exchange(problem_, {}); }

 private:
  static troupe_status on_fail(void* context, const char* text) noexcept;

  std::vector<troupe_tensor> inputs_, outputs_, states_;
  std::vector<troupe_weight> weights_;
  std::vector<troupe_attribute> attributes_;
  std::string problem_;
  troupe_native_use table_ = {};
};

// "op 12 (native selective_scan, model.layers.1)"
std::string native_op_text(const Program& program, std::uint32_t op);

// Whether the Program uses native ops at all.
bool has_native_ops(const Program& program);

// Checks every native op of a Program that verify() accepts against the module's ops: it is there in that version, numbers
// and dtypes of its operands are those that it declares, and its own shapes() agrees with the Program's tensors. Error:
// bad_program, with the op and what was expected and found.
result<void> check_native_ops(const Program& program, const native_ops& known);

}  // namespace troupe::program
