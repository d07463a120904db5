// Ops: what every one of them must keep to, in order. What each kind takes and gives stands in op_rules.cpp.
#include "kernel/program/op_rules.hpp"

namespace troupe::program {

namespace {

void expect_count(const std::string& where, const char* what, const count_range& expected,
                  std::size_t found) {
  if (found >= expected.least && found <= expected.most) return;
  refuse(where, "expected {} {}, found {}",
         expected.least == expected.most ? fmt::format("{}", expected.most)
                                         : fmt::format("{} to {}", expected.least, expected.most),
         what, found);
}

// Goes through the ops in order and remembers what they have defined and written so far.
class op_checker {
 public:
  explicit op_checker(const Program& program)
      : program_(program), defined_(program.tensors()->size()), used_(program.weights()->size()) {
    for (const auto* cache : *program.caches()) history_.written.emplace_back(cache->layers());
  }

  void run() {
    for (std::uint32_t i = 0; i < program_.ops()->size(); ++i) check(i, *program_.ops()->Get(i));
    for (std::size_t i = 0; i < defined_.size(); ++i)
      if (!defined_[i]) refuse(fmt::format("tensor {}", i), "expected one op that defines it, found none");
    for (std::size_t i = 0; i < used_.size(); ++i)
      if (!used_[i])
        refuse(fmt::format("weight {} ({})", i,
                           text(program_.weights()->Get(static_cast<std::uint32_t>(i))->name())),
               "expected an op that uses it, found none");
    check_caches_written();
    check_results(program_, defined_);
  }

 private:
  void check(std::uint32_t index, const Op& op) {
    const std::string where = name_and_scope(index, op);
    const op_rule* rule = find_rule(op.kind());
    if (rule == nullptr)
      refuse(where, "kind: expected one that the schema names, found {}", static_cast<unsigned>(op.kind()));
    expect_count(where, "inputs", rule->inputs, size(op.inputs()));
    expect_count(where, "outputs", rule->outputs, size(op.outputs()));
    expect_count(where, "weights", rule->weights, size(op.weights()));
    if (op.attrs_type() != rule->attrs || (rule->attrs != OpAttrs::NONE && op.attrs() == nullptr))
      refuse(where, "attrs: expected {}, found {}", name_of(rule->attrs),
             op.attrs() == nullptr ? "none" : name_of(op.attrs_type()));
    check_ids(where, op);
    if (!rule->uses_cache && op.cache() != -1) refuse(where, "cache: expected -1, found {}", op.cache());
    rule->check({program_, op, where, history_});
  }

  static std::string name_and_scope(std::uint32_t index, const Op& op) {
    auto where = fmt::format("op {} ({}", index, name_of(op.kind()));
    if (size(op.scope()) == 0) return where + ")";
    check_name(where + ")", "scope", op.scope());
    return fmt::format("{}, {})", where, text(op.scope()));
  }

  void check_ids(const std::string& where, const Op& op) {
    for (const auto id : values(op.inputs()))
      if (id >= defined_.size() || !defined_[id])
        refuse(where, "inputs: expected tensors that earlier ops define, found {}", id);
    for (const auto id : values(op.outputs())) {
      if (id >= defined_.size())
        refuse(where, "outputs: expected ids below {}, found {}", defined_.size(), id);
      if (defined_[id]) refuse(where, "outputs: tensor {} is defined already", id);
      defined_[id] = true;
    }
    for (const auto id : values(op.weights())) {
      if (id >= used_.size()) refuse(where, "weights: expected ids below {}, found {}", used_.size(), id);
      used_[id] = true;
    }
  }

  void check_caches_written() const {
    for (std::uint32_t c = 0; c < history_.written.size(); ++c)
      for (std::size_t layer = 0; layer < history_.written[c].size(); ++layer)
        if (!history_.written[c][layer])
          refuse(fmt::format("cache {} ({})", c, text(program_.caches()->Get(c)->name())),
                 "layer {}: expected one op that writes it, found none", layer);
  }

  const Program& program_;
  std::vector<bool> defined_;  // per tensor
  std::vector<bool> used_;     // per weight
  op_history history_;
};

}  // namespace

void check_ops(const Program& program) {
  op_checker(program).run();
}

}  // namespace troupe::program
