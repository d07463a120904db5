// What each kind of op takes, gives and may write: one row of a table and one function per kind (op_rules.cpp; native ops in
// op_rules_native.cpp). The walk over a Program's ops, and what all of them must keep to, is in verify_ops.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernel/program/check.hpp"

namespace troupe::program {

// What the ops so far have done, as far as later ones must know.
struct op_history {
  std::vector<std::vector<bool>> written;                        // per cache and layer
  std::unordered_map<std::uint32_t, std::uint32_t> chosen_from;  // expert ids -> experts of their router
};

// One op and what its checks say again and again. Numbers of inputs, outputs and weights, their ids and the kind of the
// attributes are right already.
struct op_view {
  const Program& program;
  const Op& op;
  const std::string& where;  // "op 12 (attention, model.layers.1)"
  op_history& history;

  const Tensor& in(std::uint32_t i) const { return *program.tensors()->Get(op.inputs()->Get(i)); }
  const Tensor& out(std::uint32_t i = 0) const { return *program.tensors()->Get(op.outputs()->Get(i)); }
  const Weight& weight(std::uint32_t i) const { return *program.weights()->Get(op.weights()->Get(i)); }
  static std::uint64_t width(const Tensor& tensor) { return tensor.shape()->Get(0); }

  void expect(const std::string& what, const Tensor& found, Rows rows, std::uint64_t columns,
              DType dtype = DType::f32) const;
  void expect_like(const std::string& what, const Tensor& found, const Tensor& other) const {
    expect(what, found, other.rows(), width(other));
  }
  void expect_f32(const std::string& what, const Tensor& found) const { expect_like(what, found, found); }
  void expect_tokens(const std::string& what, const Tensor& found) const {
    expect(what, found, Rows::tokens, width(found));
  }
  void expect_weight(const char* what, std::uint32_t i, const std::vector<std::uint64_t>& shape) const;
  void expect_range(const char* field, std::uint64_t found, std::uint64_t least, std::uint64_t most) const;
  void expect_finite(const char* field, double found) const;
  void expect_positive(const char* field, double found) const;
  void mark_written(std::uint32_t cache, std::uint32_t layer) const;  // each layer by one op
  template <class Enum>
  void expect_enum(const char* field, Enum found, Enum last) const {
    expect_range(field, static_cast<unsigned>(found), 0, static_cast<unsigned>(last));
  }
};

struct count_range {
  std::size_t least = 0;
  std::size_t most = 0;
};

struct op_rule {
  OpKind kind;
  count_range inputs, outputs, weights;
  OpAttrs attrs;
  bool uses_cache;
  void (*check)(const op_view&);
};

void check_native(const op_view& v);

// Null: the schema has no such op.
const op_rule* find_rule(OpKind kind);

}  // namespace troupe::program
