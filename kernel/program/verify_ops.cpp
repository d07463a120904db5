// Ops: what each kind takes, gives and may write. One function per kind, in the order of the schema.
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "kernel/program/check.hpp"

namespace troupe::program {

namespace {

struct arity {
  std::size_t inputs = 0;
  std::size_t outputs = 1;
  std::size_t least_weights = 0;
  std::size_t most_weights = 0;
  OpAttrs attrs = OpAttrs::NONE;
};

arity arity_of(OpKind kind) {
  switch (kind) {
    case OpKind::embed:
      return {0, 1, 1, 1, OpAttrs::NONE};
    case OpKind::linear:
      return {1, 1, 1, 2, OpAttrs::NONE};
    case OpKind::rms_norm:
      return {1, 1, 1, 1, OpAttrs::NormAttrs};
    case OpKind::add:
      return {2, 1, 0, 0, OpAttrs::NONE};
    case OpKind::rope:
      return {1, 1, 0, 0, OpAttrs::RopeAttrs};
    case OpKind::attention:
      return {3, 1, 0, 0, OpAttrs::AttentionAttrs};
    case OpKind::router:
      return {1, 2, 0, 0, OpAttrs::RouterAttrs};
    case OpKind::experts:
      return {3, 1, 3, 3, OpAttrs::ExpertsAttrs};
    case OpKind::select_rows:
      return {1, 1, 0, 0, OpAttrs::NONE};
    case OpKind::native:  // the module says how many of each; attributes are looked at by check_native
    case OpKind::none:
      break;
  }
  return {};
}

// Goes through the ops in order and remembers what they have defined and written so far.
class op_checker {
 public:
  explicit op_checker(const Program& program)
      : program_(program), defined_(program.tensors()->size()), used_(program.weights()->size()) {
    for (const auto* cache : *program.caches()) written_.emplace_back(cache->layers());
  }

  void run() {
    for (index_ = 0; index_ < program_.ops()->size(); ++index_) check(*program_.ops()->Get(index_));
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
  // ---- what every op must keep to ----

  void check(const Op& op) {
    where_ = fmt::format("op {} ({}", index_, name_of(op.kind()));
    if (op.scope() != nullptr && op.scope()->size() > 0) {
      check_name(where_ + ")", "scope", op.scope());
      where_ += fmt::format(", {}", text(op.scope()));
    }
    where_ += ")";
    if (op.kind() == OpKind::none || *EnumNameOpKind(op.kind()) == '\0')
      refuse(where_, "kind: expected one that the schema names, found {}", static_cast<unsigned>(op.kind()));
    if (op.kind() != OpKind::native) check_arity(op, arity_of(op.kind()));
    for (const auto id : values(op.inputs()))
      if (id >= defined_.size() || !defined_[id])
        refuse(where_, "inputs: expected tensors that earlier ops define, found {}", id);
    for (const auto id : values(op.outputs())) define(id);
    for (const auto id : values(op.weights())) {
      if (id >= used_.size()) refuse(where_, "weights: expected ids below {}, found {}", used_.size(), id);
      used_[id] = true;
    }
    if (op.kind() != OpKind::attention && op.cache() != -1)
      refuse(where_, "cache: expected -1, found {}", op.cache());
    check_meaning(op);
  }

  void check_arity(const Op& op, const arity& expected) const {
    if (size(op.inputs()) != expected.inputs)
      refuse(where_, "expected {} inputs, found {}", expected.inputs, size(op.inputs()));
    if (size(op.outputs()) != expected.outputs)
      refuse(where_, "expected {} outputs, found {}", expected.outputs, size(op.outputs()));
    const auto weights = size(op.weights());
    if (weights < expected.least_weights || weights > expected.most_weights)
      refuse(where_, "expected {} weights, found {}",
             expected.least_weights == expected.most_weights
                 ? fmt::format("{}", expected.most_weights)
                 : fmt::format("{} to {}", expected.least_weights, expected.most_weights),
             weights);
    if (op.attrs_type() != expected.attrs || (expected.attrs != OpAttrs::NONE && op.attrs() == nullptr))
      refuse(where_, "attrs: expected {}, found {}", name_of(expected.attrs),
             op.attrs() == nullptr ? "none" : name_of(op.attrs_type()));
  }

  void define(std::uint32_t id) {
    if (id >= defined_.size())
      refuse(where_, "outputs: expected ids below {}, found {}", defined_.size(), id);
    if (defined_[id]) refuse(where_, "outputs: tensor {} is defined already", id);
    defined_[id] = true;
  }

  void check_meaning(const Op& op) {
    switch (op.kind()) {
      case OpKind::embed:
        return check_embed(op);
      case OpKind::linear:
        return check_linear(op);
      case OpKind::rms_norm:
        return check_rms_norm(op);
      case OpKind::add:
        return check_add(op);
      case OpKind::rope:
        return check_rope(op);
      case OpKind::attention:
        return check_attention(op);
      case OpKind::router:
        return check_router(op);
      case OpKind::experts:
        return check_experts(op);
      case OpKind::select_rows:
        return check_select_rows(op);
      case OpKind::native:
        return check_native(op);
      case OpKind::none:
        return;
    }
  }

  // ---- small parts ----

  const Tensor& in(const Op& op, std::uint32_t i) const {
    return *program_.tensors()->Get(op.inputs()->Get(i));
  }
  const Tensor& out(const Op& op, std::uint32_t i) const {
    return *program_.tensors()->Get(op.outputs()->Get(i));
  }
  static std::uint64_t width(const Tensor& tensor) { return tensor.shape()->Get(0); }

  void expect(const char* what, const Tensor& found, Rows rows, std::uint64_t columns,
              DType dtype = DType::f32) const {
    if (found.rows() != rows || width(found) != columns || found.dtype() != dtype)
      refuse(where_, "{}: expected [{}, {}] {}, found {} {}", what, rows == Rows::tokens ? "T" : "R", columns,
             name_of(dtype), shape_text(found), name_of(found.dtype()));
  }
  void expect_f32(const char* what, const Tensor& found) const {
    expect(what, found, found.rows(), width(found));
  }
  void expect_tokens(const char* what, const Tensor& found) const {
    expect(what, found, Rows::tokens, width(found));
  }

  void expect_weight(const char* what, const Op& op, std::uint32_t i,
                     const std::vector<std::uint64_t>& shape) const {
    const Weight& weight = *program_.weights()->Get(op.weights()->Get(i));
    if (values(weight.shape()) != shape)
      refuse(where_, "{} {}: expected {}, found {}", what, text(weight.name()), shape_text(shape),
             shape_text(values(weight.shape())));
  }

  void expect_range(const char* field, std::uint64_t found, std::uint64_t least, std::uint64_t most) const {
    if (found < least || found > most)
      refuse(where_, "{}: expected {} to {}, found {}", field, least, most, found);
  }
  void expect_positive(const char* field, double found) const {
    if (!std::isfinite(found) || found <= 0)
      refuse(where_, "{}: expected a number above 0, found {}", field, found);
  }
  template <class Enum>
  void expect_enum(const char* field, Enum found, Enum last) const {
    expect_range(field, static_cast<unsigned>(found), 0, static_cast<unsigned>(last));
  }

  // ---- one op each ----

  void check_embed(const Op& op) const {
    const Facts& facts = *program_.facts();
    expect("output", out(op, 0), Rows::tokens, facts.hidden());
    expect_weight("table", op, 0, {facts.vocabulary(), facts.hidden()});
  }

  void check_linear(const Op& op) const {
    const Tensor& x = in(op, 0);
    const Tensor& y = out(op, 0);
    expect_f32("x", x);
    expect("output", y, x.rows(), width(y));
    expect_weight("weight", op, 0, {width(y), width(x)});
    if (op.weights()->size() == 2) expect_weight("bias", op, 1, {width(y)});
  }

  void check_rms_norm(const Op& op) const {
    expect_f32("x", in(op, 0));
    expect("output", out(op, 0), in(op, 0).rows(), width(in(op, 0)));
    expect_weight("weight", op, 0, {width(in(op, 0))});
    expect_positive("eps", op.attrs_as_NormAttrs()->eps());
  }

  void check_add(const Op& op) const {
    expect_f32("a", in(op, 0));
    expect("b", in(op, 1), in(op, 0).rows(), width(in(op, 0)));
    expect("output", out(op, 0), in(op, 0).rows(), width(in(op, 0)));
  }

  void check_rope(const Op& op) const {
    const RopeAttrs& a = *op.attrs_as_RopeAttrs();
    const Tensor& x = in(op, 0);
    expect_tokens("x", x);
    expect("output", out(op, 0), Rows::tokens, width(x));
    expect_range("head_dim", a.head_dim(), 1, max_dimension);
    if (width(x) % a.head_dim() != 0)
      refuse(where_, "x: expected a multiple of head_dim {}, found {}", a.head_dim(), shape_text(x));
    if (a.rotary_dim() == 0 || a.rotary_dim() % 2 != 0 || a.rotary_dim() > a.head_dim())
      refuse(where_, "rotary_dim: expected an even number from 2 to head_dim {}, found {}", a.head_dim(),
             a.rotary_dim());
    expect_positive("theta", a.theta());
    expect_enum("layout", a.layout(), RopeLayout::interleaved);
  }

  void check_attention(const Op& op) {
    const AttentionAttrs& a = *op.attrs_as_AttentionAttrs();
    expect_range("heads", a.heads(), 1, max_dimension);
    expect_range("kv_heads", a.kv_heads(), 1, max_dimension);
    expect_range("head_dim", a.head_dim(), 1, max_dimension);
    if (a.heads() % a.kv_heads() != 0)
      refuse(where_, "heads: expected a multiple of kv_heads {}, found {}", a.kv_heads(), a.heads());
    expect_positive("scale", a.scale());
    const std::uint64_t queries = std::uint64_t{a.heads()} * a.head_dim();
    const std::uint64_t keys = std::uint64_t{a.kv_heads()} * a.head_dim();
    expect("q", in(op, 0), Rows::tokens, queries);
    expect("k", in(op, 1), Rows::tokens, keys);
    expect("v", in(op, 2), Rows::tokens, keys);
    expect("output", out(op, 0), Rows::tokens, queries);
    check_cache_use(op, a);
  }

  void check_cache_use(const Op& op, const AttentionAttrs& a) {
    if (op.cache() < 0 || static_cast<std::size_t>(op.cache()) >= written_.size())
      refuse(where_, "cache: expected 0 to {}, found {}", static_cast<std::int64_t>(written_.size()) - 1,
             op.cache());
    const Cache& cache = *program_.caches()->Get(static_cast<std::uint32_t>(op.cache()));
    if (cache.kind() != CacheKind::paged_kv || cache.kv_heads() != a.kv_heads() ||
        cache.head_dim() != a.head_dim())
      refuse(where_, "cache {}: expected paged_kv of {} heads x {}, found {} of {} x {}", text(cache.name()),
             a.kv_heads(), a.head_dim(), name_of(cache.kind()), cache.kv_heads(), cache.head_dim());
    mark_written(static_cast<std::uint32_t>(op.cache()), a.cache_layer());
  }

  void check_router(const Op& op) {
    const RouterAttrs& a = *op.attrs_as_RouterAttrs();
    const Tensor& logits = in(op, 0);
    expect_range("experts", a.experts(), 1, max_dimension);
    expect_range("top_k", a.top_k(), 1, a.experts());
    expect_enum("score", a.score(), RouterScore::sigmoid);
    expect_enum("norm", a.norm(), RouterNorm::sum);
    expect("logits", logits, logits.rows(), a.experts());
    expect("output weights", out(op, 0), logits.rows(), a.top_k());
    expect("output experts", out(op, 1), logits.rows(), a.top_k(), DType::i32);
    chosen_from_[op.outputs()->Get(1)] = a.experts();
  }

  void check_experts(const Op& op) const {
    const Tensor& x = in(op, 0);
    expect_f32("x", x);
    expect("weights", in(op, 1), x.rows(), width(in(op, 1)));
    expect("experts", in(op, 2), x.rows(), width(in(op, 1)), DType::i32);
    expect("output", out(op, 0), x.rows(), width(x));
    expect_enum("activation", op.attrs_as_ExpertsAttrs()->activation(), Activation::relu);
    const auto gate = values(program_.weights()->Get(op.weights()->Get(0))->shape());
    if (gate.size() != 3 || gate[2] != width(x))
      refuse(where_, "gate {}: expected [E, F, {}], found {}",
             text(program_.weights()->Get(op.weights()->Get(0))->name()), width(x), shape_text(gate));
    expect_weight("up", op, 1, gate);
    expect_weight("down", op, 2, {gate[0], gate[2], gate[1]});
    const auto router = chosen_from_.find(op.inputs()->Get(2));
    if (router == chosen_from_.end() || router->second != gate[0])
      refuse(where_, "experts: expected ids chosen by a router among {}, found {}", gate[0],
             router == chosen_from_.end() ? "another tensor" : fmt::format("a router of {}", router->second));
  }

  void check_select_rows(const Op& op) const {
    expect_tokens("x", in(op, 0));
    expect("output", out(op, 0), Rows::logit_rows, width(in(op, 0)));
  }

  // All that can be said without the module; check_native_ops() asks it for the rest.
  void check_native(const Op& op) {
    const NativeAttrs* a = op.attrs_as_NativeAttrs();
    if (a == nullptr)
      refuse(where_, "attrs: expected {}, found {}", name_of(OpAttrs::NativeAttrs), name_of(op.attrs_type()));
    check_name(where_, "op", a->op());
    expect_range("version", a->version(), 1, max_dimension);
    expect_range("inputs", size(op.inputs()), 0, max_native_operands);
    expect_range("outputs", size(op.outputs()), 1, max_native_operands);
    expect_range("weights", size(op.weights()), 0, max_native_operands);
    const Rows rows = out(op, 0).rows();
    for (std::uint32_t i = 0; i < size(op.inputs()); ++i)
      expect("input", in(op, i), rows, width(in(op, i)), in(op, i).dtype());
    for (std::uint32_t i = 0; i < size(op.outputs()); ++i)
      expect("output", out(op, i), rows, width(out(op, i)), out(op, i).dtype());
    check_attributes(*a);
    check_states(*a, rows);
  }

  void check_attributes(const NativeAttrs& a) const {
    expect_range("attributes", size(a.attributes()), 0, max_native_operands);
    std::unordered_set<std::string_view> names;
    for (std::uint32_t i = 0; i < size(a.attributes()); ++i) {
      const Attribute& one = *a.attributes()->Get(i);
      check_name(where_, "attribute", one.name());
      if (!names.insert(text(one.name())).second)
        refuse(where_, "attribute {} comes twice", text(one.name()));
      if (!std::isfinite(one.value()))
        refuse(where_, "attribute {}: expected a finite number, found {}", text(one.name()), one.value());
    }
  }

  void check_states(const NativeAttrs& a, Rows rows) {
    expect_range("states", size(a.states()), 0, max_native_operands);
    for (std::uint32_t i = 0; i < size(a.states()); ++i) {
      const StateUse& use = *a.states()->Get(i);
      if (rows != Rows::tokens)
        refuse(where_, "states: expected inputs and outputs [T, ...], found [R, ...]");
      if (use.cache() >= written_.size() ||
          program_.caches()->Get(use.cache())->kind() != CacheKind::recurrent)
        refuse(where_, "state {}: expected a recurrent cache, found {}", i, use.cache());
      mark_written(use.cache(), use.layer());
    }
  }

  void mark_written(std::uint32_t cache, std::uint32_t layer) {
    const auto name = text(program_.caches()->Get(cache)->name());
    auto& written = written_[cache];
    if (layer >= written.size())
      refuse(where_, "layer of cache {}: expected 0 to {}, found {}", name, written.size() - 1, layer);
    if (written[layer]) refuse(where_, "layer {} of cache {} is written by an earlier op", layer, name);
    written[layer] = true;
  }

  void check_caches_written() const {
    for (std::uint32_t c = 0; c < written_.size(); ++c)
      for (std::size_t layer = 0; layer < written_[c].size(); ++layer)
        if (!written_[c][layer])
          refuse(fmt::format("cache {} ({})", c, text(program_.caches()->Get(c)->name())),
                 "layer {}: expected one op that writes it, found none", layer);
  }

  const Program& program_;
  std::uint32_t index_ = 0;
  std::string where_;                                             // "op 12 (attention, model.layers.1)"
  std::vector<bool> defined_;                                     // per tensor
  std::vector<bool> used_;                                        // per weight
  std::vector<std::vector<bool>> written_;                        // per cache and layer
  std::unordered_map<std::uint32_t, std::uint32_t> chosen_from_;  // expert ids -> experts of their router
};

}  // namespace

void check_ops(const Program& program) {
  op_checker(program).run();
}

}  // namespace troupe::program
