// Builds a Program op by op, in the order in which the ops run. Shapes are computed here; an op whose inputs do not fit
// throws program_error with the scope, the op, what was expected and what was found.
//
// A weight's role (and with it whether it may be quantized) follows from the op that uses it: linear and experts may be,
// embeddings, norms, routers and the output are not.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <troupe/sdk/errors.hpp>
#include <troupe/sdk/native_op.hpp>
#include <troupe/sdk/parts.hpp>
#include <troupe/sdk/shape_query.hpp>
#include <unordered_set>
#include <utility>
#include <vector>

namespace troupe::sdk {

class builder {
 public:
  class scoped;

  void facts(const model_facts& f) {
    auto out = std::make_unique<program::FactsT>();
    out->architecture = f.architecture;
    out->vocabulary = f.vocabulary;
    out->hidden = f.hidden;
    out->layers = f.layers;
    out->context_tokens = f.context_tokens;
    out->bos_id = f.bos_id;
    out->eos_ids = f.eos_ids;
    out->chat_template = f.chat_template;
    program_.facts = std::move(out);
  }

  // Names what is built while the answer lives: auto layer = b.scope("model.layers", 3);
  scoped scope(std::string_view name);
  scoped scope(std::string_view name, std::uint32_t index);

  // `name` is the module's own name for the weight and, unless options say otherwise, the checkpoint's.
  weight_ref weight(std::string_view name, const shape& dimensions, const weight_options& options = {}) {
    if (!names_.emplace(name).second) fail("weight", "the name " + std::string(name) + " comes twice");
    for (const auto& one : options.spellings) sources_ += one.sources.size();
    if (sources_ > max_parts) fail("weight", "more than " + std::to_string(max_parts) + " tensors in all");
    auto w = std::make_unique<program::WeightT>();
    w->name = std::string(name);
    w->shape = dimensions;
    w->partition = options.partition;
    if (options.spellings.empty())
      w->spellings.push_back(pack({program::Combine::single, {source{w->name, {}, -1, 0, 0, false}}}));
    for (const auto& one : options.spellings) w->spellings.push_back(pack(one));
    program_.weights.push_back(std::move(w));
    return {static_cast<std::uint32_t>(program_.weights.size() - 1)};
  }

  cache_ref kv_cache(std::string_view name, const kv_cache_options& options) {
    auto c = std::make_unique<program::CacheT>();
    c->name = std::string(name);
    c->layers = options.layers;
    c->kv_heads = options.kv_heads;
    c->head_dim = options.head_dim;
    c->window = options.window;
    program_.caches.push_back(std::move(c));
    return {static_cast<std::int32_t>(program_.caches.size() - 1)};
  }

  cache_ref recurrent_cache(std::string_view name, const recurrent_cache_options& options) {
    auto c = std::make_unique<program::CacheT>();
    c->name = std::string(name);
    c->kind = program::CacheKind::recurrent;
    c->layers = options.layers;
    c->shape = options.dimensions;
    program_.caches.push_back(std::move(c));
    return {static_cast<std::int32_t>(program_.caches.size() - 1)};
  }

  // ---- ops ----

  // () -> [T, D]                       table [V, D]
  tensor_ref embed(weight_ref table) {
    const auto& dimensions = use(table, program::WeightRole::embedding, false).shape;
    if (dimensions.size() != 2) fail("embed", "table " + describe(table) + ": expected [V, D]");
    return op(program::OpKind::embed, {}, program::Rows::tokens, dimensions[1], {table});
  }

  // x [T, N] -> [T, M]                 w [M, N]
  tensor_ref linear(tensor_ref x, weight_ref w) { return linear_with(x, w, {w}); }
  // the same, plus bias [M]
  tensor_ref linear(tensor_ref x, weight_ref w, weight_ref bias) {
    const auto y = linear_with(x, w, {w, bias});
    expect_shape("linear", use(bias, program::WeightRole::bias, false), {columns(y)});
    return y;
  }

  // x [T, N] -> [T, N]                 w [N]
  tensor_ref rms_norm(tensor_ref x, weight_ref w, float eps) {
    return norm("rms_norm", program::OpKind::rms_norm, x, {w}, eps, columns(x));
  }
  // The same for each `group` columns on their own: the norm of queries and keys head by head.       w [group]
  tensor_ref rms_norm_groups(tensor_ref x, weight_ref w, float eps, std::uint32_t group) {
    return norm("rms_norm_groups", program::OpKind::rms_norm, x, {w}, eps, group);
  }

  // x [T, N] -> [T, N]                 w [N]
  tensor_ref layer_norm(tensor_ref x, weight_ref w, float eps) {
    return norm("layer_norm", program::OpKind::layer_norm, x, {w}, eps, columns(x));
  }
  // the same, plus bias [N]
  tensor_ref layer_norm(tensor_ref x, weight_ref w, weight_ref bias, float eps) {
    return norm("layer_norm", program::OpKind::layer_norm, x, {w, bias}, eps, columns(x));
  }

  // a, b [T, N] -> [T, N]
  tensor_ref add(tensor_ref a, tensor_ref b) { return pair("add", program::OpKind::add, a, b); }
  tensor_ref mul(tensor_ref a, tensor_ref b) { return pair("mul", program::OpKind::mul, a, b); }

  // x [T, N] -> [T, N], each number moved into [min, max]
  tensor_ref clamp(tensor_ref x, float min, float max) {
    if (!(min <= max))
      fail("clamp", "expected min <= max, found " + std::to_string(min) + " and " + std::to_string(max));
    program::ClampAttrsT attrs;
    attrs.min = min;
    attrs.max = max;
    return op(program::OpKind::clamp, {x}, rows(x), columns(x), {}, attrs);
  }

  // x [T, N] -> act(x)
  tensor_ref activation(tensor_ref x, program::Activation kind) {
    program::ActivationAttrsT attrs;
    attrs.activation = kind;
    return op(program::OpKind::activation, {x}, rows(x), columns(x), {}, attrs);
  }
  // gate, up [T, F] -> act(gate) · up, as in down(act(gate(x)) · up(x))
  tensor_ref gated(tensor_ref gate, tensor_ref up, program::Activation kind = program::Activation::silu) {
    const auto out = pair("gated", program::OpKind::activation, gate, up);
    program::ActivationAttrsT attrs;
    attrs.activation = kind;
    attach(attrs);
    return out;
  }

  // x [T, N] -> [T, widths[0]], [T, widths[1]], ...: columns, in order; all of them
  std::vector<tensor_ref> split(tensor_ref x, const std::vector<std::uint64_t>& widths) {
    std::uint64_t sum = 0;
    for (const auto width : widths) sum += width;
    if (widths.size() < 2 || sum != columns(x))
      fail("split",
           "expected at least two widths that add up to " + describe(x) + ", found " + describe(widths));
    std::vector<tensor_ref> parts{op(program::OpKind::split, {x}, rows(x), widths[0], {})};
    for (std::size_t i = 1; i < widths.size(); ++i) parts.push_back(another_output(rows(x), widths[i]));
    return parts;
  }

  // [T, N0], [T, N1], ... -> [T, N0 + N1 + ...]
  tensor_ref concat(const std::vector<tensor_ref>& parts) {
    std::uint64_t sum = 0;
    for (const auto part : parts) {
      if (rows(part) != rows(parts[0]))
        fail("concat",
             "expected tensors of equal rows, found " + describe(parts[0]) + " and " + describe(part));
      sum += columns(part);
    }
    if (parts.size() < 2)
      fail("concat", "expected at least two tensors, found " + std::to_string(parts.size()));
    return op(program::OpKind::concat, parts, rows(parts[0]), sum, {});
  }

  // x [T, H·Dh] -> the same, each head rotated by its token's position
  tensor_ref rope(tensor_ref x, const rope_options& options) {
    if (options.head_dim == 0 || columns(x) % options.head_dim != 0)
      fail("rope",
           "expected a multiple of head_dim " + std::to_string(options.head_dim) + ", found " + describe(x));
    program::RopeAttrsT attrs;
    attrs.head_dim = options.head_dim;
    attrs.rotary_dim = options.rotary_dim == 0 ? options.head_dim : options.rotary_dim;
    attrs.theta = options.theta;
    attrs.layout = options.layout;
    attrs.frequencies = options.frequencies;
    attrs.amplitude = options.amplitude;
    if (!options.frequencies.empty() && options.frequencies.size() != attrs.rotary_dim / 2)
      fail("rope", "expected frequencies for half of rotary_dim " + std::to_string(attrs.rotary_dim) +
                       ", found " + std::to_string(options.frequencies.size()));
    return op(program::OpKind::rope, {x}, rows(x), columns(x), {}, std::move(attrs));
  }

  // q [T, H·Dh], k, v [T, K·Dh] -> [T, H·Dh]; writes k and v to the cache, then attends to all positions so far
  tensor_ref attention(tensor_ref q, tensor_ref k, tensor_ref v, cache_ref cache,
                       const attention_options& options) {
    const std::uint64_t queries = std::uint64_t{options.heads} * options.head_dim;
    const std::uint64_t keys = std::uint64_t{options.kv_heads} * options.head_dim;
    if (options.head_dim == 0 || columns(q) != queries || columns(k) != keys || columns(v) != keys)
      fail("attention", "expected q [T, " + std::to_string(queries) + "], k and v [T, " +
                            std::to_string(keys) + "], found " + describe(q) + ", " + describe(k) + " and " +
                            describe(v));
    program::AttentionAttrsT attrs;
    attrs.heads = options.heads;
    attrs.kv_heads = options.kv_heads;
    attrs.head_dim = options.head_dim;
    attrs.scale = options.scale != 0
                      ? options.scale
                      : static_cast<float>(1 / std::sqrt(static_cast<double>(options.head_dim)));
    attrs.cache_layer = options.cache_layer;
    attrs.soft_cap = options.soft_cap;
    const auto out = op(program::OpKind::attention, {q, k, v}, rows(q), queries, {}, attrs);
    program_.ops.back()->cache = cache.id;
    return out;
  }

  // logits [T, E] -> weights [T, k], experts [T, k]
  routing router(tensor_ref logits, const router_options& options) {
    if (options.top_k == 0 || options.top_k > columns(logits))
      fail("router", "expected top_k from 1 to the experts, found " + std::to_string(options.top_k) + " of " +
                         describe(logits));
    relabel(logits, program::WeightRole::router);
    program::RouterAttrsT attrs;
    attrs.experts = static_cast<std::uint32_t>(columns(logits));
    attrs.top_k = options.top_k;
    attrs.score = options.score;
    attrs.norm = options.norm;
    attrs.norm_power = options.norm_power;
    attrs.scale = options.scale;
    const auto weights = op(program::OpKind::router, {logits}, rows(logits), options.top_k, {}, attrs);
    return {weights, another_output(rows(logits), options.top_k, program::DType::i32)};
  }

  // x [T, D] -> [T, D]: sum over the chosen e of weight_e · down_e · (act(gate_e · x) * (up_e · x))
  tensor_ref experts(tensor_ref x, const routing& chosen, const expert_weights& w,
                     program::Activation activation = program::Activation::silu) {
    const auto gate = use(w.gate, program::WeightRole::experts, true).shape;
    if (gate.size() != 3 || gate[2] != columns(x))
      fail("experts", "gate " + describe(w.gate) + ": expected [E, F, " + std::to_string(columns(x)) + "]");
    expect_shape("experts", use(w.up, program::WeightRole::experts, true), gate);
    expect_shape("experts", use(w.down, program::WeightRole::experts, true), {gate[0], gate[2], gate[1]});
    program::ExpertsAttrsT attrs;
    attrs.activation = activation;
    return op(program::OpKind::experts, {x, chosen.weights, chosen.experts}, rows(x), columns(x),
              {w.gate, w.up, w.down}, attrs);
  }

  // x [T, N] -> [R, N]: the rows whose logits are asked for
  tensor_ref select_rows(tensor_ref x) {
    if (rows(x) != program::Rows::tokens) fail("select_rows", "expected [T, N], found " + describe(x));
    return op(program::OpKind::select_rows, {x}, program::Rows::logit_rows, columns(x), {});
  }

  // An op of this module: b.native<scale>({x}, {}, {}, {{"factor", 2}}). Inputs, weights and states in the order in which it
  // declares them; answers its outputs.
  template <class Op>
  std::vector<tensor_ref> native(const std::vector<tensor_ref>& inputs,
                                 const std::vector<weight_ref>& weights = {},
                                 const std::vector<state_ref>& states = {},
                                 const std::vector<attribute>& attributes = {}) {
    return native(native_op<Op>(), inputs, weights, states, attributes);
  }
  std::vector<tensor_ref> native(const troupe_native_op& which, const std::vector<tensor_ref>& inputs,
                                 const std::vector<weight_ref>& weights = {},
                                 const std::vector<state_ref>& states = {},
                                 const std::vector<attribute>& attributes = {});

  // ---- results ----

  // x [R, V] is what the Program answers. Once.
  void logits(tensor_ref x) {
    if (has_logits_) fail("logits", "given twice");
    if (rows(x) != program::Rows::logit_rows) fail("logits", "expected [R, V], found " + describe(x));
    relabel(x, program::WeightRole::output);
    program_.logits = x.id;
    has_logits_ = true;
  }

  // A tensor that tests may look at by name.
  void probe(std::string_view name, tensor_ref x) {
    auto p = std::make_unique<program::ProbeT>();
    p->name = std::string(name);
    p->tensor = x.id;
    program_.probes.push_back(std::move(p));
  }

  // The finished Program's bytes.
  flatbuffers::DetachedBuffer finish() const {
    if (!program_.facts) fail("finish", "expected facts, found none");
    if (!has_logits_) fail("finish", "expected logits, found none");
    flatbuffers::FlatBufferBuilder out(1 << 16);
    program::FinishProgramBuffer(out, program::Program::Pack(out, &program_));
    return out.Release();
  }

  std::uint64_t columns(tensor_ref x) const { return at(x).shape[0]; }

 private:
  static std::unique_ptr<program::SpellingT> pack(const spelling& one) {
    auto out = std::make_unique<program::SpellingT>();
    out->combine = one.combine;
    for (const auto& s : one.sources) {
      auto packed = std::make_unique<program::SourceT>();
      packed->tensor = s.tensor;
      packed->reshape = s.reshaped;
      packed->slice_axis = s.slice_axis;
      packed->slice_begin = s.slice_begin;
      packed->slice_end = s.slice_end;
      packed->transpose = s.transposed;
      out->sources.push_back(std::move(packed));
    }
    return out;
  }

  [[noreturn]] void fail(const char* what, const std::string& why) const {
    throw program_error((scope_.empty() ? std::string() : scope_ + ": ") + what + ": " + why);
  }

  const program::TensorT& at(tensor_ref x) const {
    if (x.id >= program_.tensors.size()) fail("tensor", "of another builder");
    return *program_.tensors[x.id];
  }
  program::WeightT& at(weight_ref w) const {
    if (w.id >= program_.weights.size()) fail("weight", "of another builder");
    return *program_.weights[w.id];
  }
  program::Rows rows(tensor_ref x) const { return at(x).rows; }

  static std::string describe(const shape& dimensions) {
    std::string out;
    for (const auto dimension : dimensions) out += (out.empty() ? "[" : ", ") + std::to_string(dimension);
    return out + "]";
  }
  std::string describe(tensor_ref x) const {
    return (rows(x) == program::Rows::tokens ? "[T, " : "[R, ") + std::to_string(columns(x)) + "]";
  }
  std::string describe(weight_ref w) const { return at(w).name + " " + describe(at(w).shape); }

  std::vector<troupe_tensor> native_outputs(const troupe_native_op& which, program::Rows what,
                                            const std::vector<tensor_ref>& inputs,
                                            const std::vector<weight_ref>& weights,
                                            const std::vector<state_ref>& states,
                                            const std::vector<attribute>& attributes);

  // A weight's first use decides its role; an embedding that is also the output stays an embedding.
  program::WeightT& use(weight_ref w, program::WeightRole role, bool quantizable) {
    auto& weight = at(w);
    if (weight.role == program::WeightRole::other) {
      weight.role = role;
      weight.quantizable = quantizable;
    }
    return weight;
  }

  // The linear that made x was a router's or the output's.
  void relabel(tensor_ref x, program::WeightRole role) {
    for (const auto& op : program_.ops)
      if (op->kind == program::OpKind::linear && op->outputs[0] == x.id) {
        auto& weight = at(weight_ref{op->weights[0]});
        if (weight.role == program::WeightRole::linear) weight.role = role;
        weight.quantizable = false;
      }
  }

  void expect_shape(const char* what, const program::WeightT& weight, const shape& expected) const {
    if (weight.shape != expected)
      fail(what, "weight " + weight.name + " " + describe(weight.shape) + ": expected " + describe(expected));
  }

  tensor_ref linear_with(tensor_ref x, weight_ref w, const std::vector<weight_ref>& weights) {
    const auto& dimensions = use(w, program::WeightRole::linear, true).shape;
    if (dimensions.size() != 2 || dimensions[1] != columns(x))
      fail("linear", "weight " + describe(w) + ": expected [M, " + std::to_string(columns(x)) + "] for x " +
                         describe(x));
    return op(program::OpKind::linear, {x}, rows(x), dimensions[0], weights);
  }

  tensor_ref norm(const char* what, program::OpKind kind, tensor_ref x,
                  const std::vector<weight_ref>& weights, float eps, std::uint64_t group) {
    if (group == 0 || columns(x) % group != 0)
      fail(what, "expected a multiple of " + std::to_string(group) + " columns, found " + describe(x));
    expect_shape(what, use(weights[0], program::WeightRole::norm, false), {group});
    if (weights.size() > 1) expect_shape(what, use(weights[1], program::WeightRole::bias, false), {group});
    program::NormAttrsT attrs;
    attrs.eps = eps;
    attrs.group = group == columns(x) ? 0 : static_cast<std::uint32_t>(group);
    return op(kind, {x}, rows(x), columns(x), weights, attrs);
  }

  tensor_ref pair(const char* what, program::OpKind kind, tensor_ref a, tensor_ref b) {
    if (rows(a) != rows(b) || columns(a) != columns(b))
      fail(what, "expected two tensors of one shape, found " + describe(a) + " and " + describe(b));
    return op(kind, {a, b}, rows(a), columns(a), {});
  }

  tensor_ref tensor(program::Rows what, std::uint64_t width, program::DType type = program::DType::f32) {
    auto t = std::make_unique<program::TensorT>();
    t->rows = what;
    t->shape = {width};
    t->dtype = type;
    program_.tensors.push_back(std::move(t));
    return {static_cast<std::uint32_t>(program_.tensors.size() - 1)};
  }

  // One more of the op that came last.
  tensor_ref another_output(program::Rows what, std::uint64_t width,
                            program::DType type = program::DType::f32) {
    const auto out = tensor(what, width, type);
    program_.ops.back()->outputs.push_back(out.id);
    return out;
  }

  tensor_ref op(program::OpKind kind, const std::vector<tensor_ref>& inputs, program::Rows what,
                std::uint64_t width, const std::vector<weight_ref>& weights) {
    if (program_.ops.size() >= max_parts) fail("op", "more than " + std::to_string(max_parts) + " in all");
    auto o = std::make_unique<program::OpT>();
    o->kind = kind;
    o->scope = scope_;
    for (const auto x : inputs) o->inputs.push_back(x.id);
    for (const auto w : weights) o->weights.push_back(w.id);
    const auto out = tensor(what, width);
    o->outputs.push_back(out.id);
    program_.ops.push_back(std::move(o));
    return out;
  }
  template <class Attrs>
  tensor_ref op(program::OpKind kind, const std::vector<tensor_ref>& inputs, program::Rows what,
                std::uint64_t width, const std::vector<weight_ref>& weights, Attrs attrs) {
    const auto out = op(kind, inputs, what, width, weights);
    attach(std::move(attrs));
    return out;
  }
  // To the op that came last.
  template <class Attrs>
  void attach(Attrs attrs) {
    program_.ops.back()->attrs.Set(std::move(attrs));
  }

  // A configuration with absurd numbers must not take all memory.
  static constexpr std::size_t max_parts = std::size_t{1} << 20;

  static program::ProgramT empty_program() {
    program::ProgramT p;
    p.version_minor = program_version_minor;
    return p;
  }

  program::ProgramT program_ = empty_program();
  std::unordered_set<std::string> names_;  // of weights
  std::size_t sources_ = 0;                // of all spellings
  std::string scope_;
  bool has_logits_ = false;
};

}  // namespace troupe::sdk

#include <troupe/sdk/builder_native.hpp>
#include <troupe/sdk/builder_scope.hpp>
