#include "kernel/program/op_rules.hpp"

#include <cmath>

namespace troupe::program {

// ---- what the checks share ----

void op_view::expect(const std::string& what, const Tensor& found, Rows rows, std::uint64_t columns,
                     DType dtype) const {
  if (found.rows() != rows || width(found) != columns || found.dtype() != dtype)
    refuse(where, "{}: expected [{}, {}] {}, found {} {}", what, rows == Rows::tokens ? "T" : "R", columns,
           name_of(dtype), shape_text(found), name_of(found.dtype()));
}

void op_view::expect_weight(const char* what, std::uint32_t i,
                            const std::vector<std::uint64_t>& shape) const {
  if (values(weight(i).shape()) != shape)
    refuse(where, "{} {}: expected {}, found {}", what, text(weight(i).name()), shape_text(shape),
           shape_text(values(weight(i).shape())));
}

void op_view::expect_range(const char* field, std::uint64_t found, std::uint64_t least,
                           std::uint64_t most) const {
  if (found < least || found > most)
    refuse(where, "{}: expected {} to {}, found {}", field, least, most, found);
}

void op_view::expect_finite(const char* field, double found) const {
  if (!std::isfinite(found)) refuse(where, "{}: expected a finite number, found {}", field, found);
}

void op_view::expect_positive(const char* field, double found) const {
  if (!std::isfinite(found) || found <= 0)
    refuse(where, "{}: expected a number above 0, found {}", field, found);
}

void op_view::mark_written(std::uint32_t cache, std::uint32_t layer) const {
  const auto name = text(program.caches()->Get(cache)->name());
  auto& written = history.written[cache];
  if (layer >= written.size())
    refuse(where, "layer of cache {}: expected 0 to {}, found {}", name, written.size() - 1, layer);
  if (written[layer]) refuse(where, "layer {} of cache {} is written by an earlier op", layer, name);
  written[layer] = true;
}

namespace {

constexpr std::size_t most_parts = 64;  // of one split or concat

// ---- rows and linear maps ----

void check_embed(const op_view& v) {
  const Facts& facts = *v.program.facts();
  v.expect("output", v.out(), Rows::tokens, facts.hidden());
  v.expect_weight("table", 0, {facts.vocabulary(), facts.hidden()});
}

void check_linear(const op_view& v) {
  const Tensor& x = v.in(0);
  const auto columns = op_view::width(v.out());
  v.expect_f32("x", x);
  v.expect("output", v.out(), x.rows(), columns);
  v.expect_weight("weight", 0, {columns, op_view::width(x)});
  if (v.op.weights()->size() == 2) v.expect_weight("bias", 1, {columns});
}

void check_select_rows(const op_view& v) {
  v.expect_tokens("x", v.in(0));
  v.expect("output", v.out(), Rows::logit_rows, op_view::width(v.in(0)));
}

// ---- one tensor to one of the same shape ----

void check_norm(const op_view& v) {
  const NormAttrs& a = *v.op.attrs_as_NormAttrs();
  const auto columns = op_view::width(v.in(0));
  const auto group = a.group() == 0 ? columns : a.group();
  v.expect_f32("x", v.in(0));
  v.expect_like("output", v.out(), v.in(0));
  if (columns % group != 0)
    refuse(v.where, "group: expected a divisor of {} columns, found {}", columns, group);
  v.expect_weight("weight", 0, {group});
  if (v.op.weights()->size() == 2) v.expect_weight("bias", 1, {group});
  v.expect_positive("eps", a.eps());
}

void check_clamp(const op_view& v) {
  const ClampAttrs& a = *v.op.attrs_as_ClampAttrs();
  v.expect_f32("x", v.in(0));
  v.expect_like("output", v.out(), v.in(0));
  v.expect_finite("min", a.min());
  v.expect_finite("max", a.max());
  if (a.min() > a.max()) refuse(v.where, "min: expected at most max {}, found {}", a.max(), a.min());
}

void check_rope(const op_view& v) {
  const RopeAttrs& a = *v.op.attrs_as_RopeAttrs();
  const Tensor& x = v.in(0);
  v.expect_tokens("x", x);
  v.expect_like("output", v.out(), x);
  v.expect_range("head_dim", a.head_dim(), 1, max_dimension);
  if (op_view::width(x) % a.head_dim() != 0)
    refuse(v.where, "x: expected a multiple of head_dim {}, found {}", a.head_dim(), shape_text(x));
  if (a.rotary_dim() == 0 || a.rotary_dim() % 2 != 0 || a.rotary_dim() > a.head_dim())
    refuse(v.where, "rotary_dim: expected an even number from 2 to head_dim {}, found {}", a.head_dim(),
           a.rotary_dim());
  v.expect_positive("theta", a.theta());
  v.expect_enum("layout", a.layout(), RopeLayout::interleaved);
  v.expect_positive("amplitude", a.amplitude());
  if (a.frequencies() == nullptr) return;
  if (a.frequencies()->size() != a.rotary_dim() / 2)
    refuse(v.where, "frequencies: expected {}, half of rotary_dim, found {}", a.rotary_dim() / 2,
           a.frequencies()->size());
  for (const auto frequency : *a.frequencies()) v.expect_positive("frequencies", frequency);
}

void check_activation(const op_view& v) {
  v.expect_f32("x", v.in(0));
  if (v.op.inputs()->size() == 2) v.expect_like("factor", v.in(1), v.in(0));
  v.expect_like("output", v.out(), v.in(0));
  v.expect_enum("activation", v.op.attrs_as_ActivationAttrs()->activation(), Activation::gelu_tanh);
}

// ---- several tensors ----

// add and mul
void check_pair(const op_view& v) {
  v.expect_f32("a", v.in(0));
  v.expect_like("b", v.in(1), v.in(0));
  v.expect_like("output", v.out(), v.in(0));
}

std::uint64_t sum_of_widths(const Program& program, const flatbuffers::Vector<std::uint32_t>& ids) {
  std::uint64_t sum = 0;
  for (const auto id : ids) sum += op_view::width(*program.tensors()->Get(id));
  return sum;
}

void check_split(const op_view& v) {
  const Tensor& x = v.in(0);
  v.expect_f32("x", x);
  for (std::uint32_t i = 0; i < v.op.outputs()->size(); ++i)
    v.expect(fmt::format("output {}", i), v.out(i), x.rows(), op_view::width(v.out(i)));
  if (const auto sum = sum_of_widths(v.program, *v.op.outputs()); sum != op_view::width(x))
    refuse(v.where, "outputs: expected {} columns in all, found {}", op_view::width(x), sum);
}

void check_concat(const op_view& v) {
  for (std::uint32_t i = 0; i < v.op.inputs()->size(); ++i)
    v.expect(fmt::format("input {}", i), v.in(i), v.in(0).rows(), op_view::width(v.in(i)));
  v.expect("output", v.out(), v.in(0).rows(), sum_of_widths(v.program, *v.op.inputs()));
}

// ---- attention ----

void check_cache_use(const op_view& v, const AttentionAttrs& a) {
  const auto caches = static_cast<std::int64_t>(v.program.caches()->size());
  if (v.op.cache() < 0 || v.op.cache() >= caches)
    refuse(v.where, "cache: expected 0 to {}, found {}", caches - 1, v.op.cache());
  const Cache& cache = *v.program.caches()->Get(static_cast<std::uint32_t>(v.op.cache()));
  if (cache.kind() != CacheKind::paged_kv || cache.kv_heads() != a.kv_heads() ||
      cache.head_dim() != a.head_dim())
    refuse(v.where, "cache {}: expected paged_kv of {} heads x {}, found {} of {} x {}", text(cache.name()),
           a.kv_heads(), a.head_dim(), name_of(cache.kind()), cache.kv_heads(), cache.head_dim());
  v.mark_written(static_cast<std::uint32_t>(v.op.cache()), a.cache_layer());
}

void check_attention(const op_view& v) {
  const AttentionAttrs& a = *v.op.attrs_as_AttentionAttrs();
  v.expect_range("heads", a.heads(), 1, max_dimension);
  v.expect_range("kv_heads", a.kv_heads(), 1, max_dimension);
  v.expect_range("head_dim", a.head_dim(), 1, max_dimension);
  if (a.heads() % a.kv_heads() != 0)
    refuse(v.where, "heads: expected a multiple of kv_heads {}, found {}", a.kv_heads(), a.heads());
  v.expect_positive("scale", a.scale());
  if (a.soft_cap() != 0) v.expect_positive("soft_cap", a.soft_cap());
  const std::uint64_t queries = std::uint64_t{a.heads()} * a.head_dim();
  const std::uint64_t keys = std::uint64_t{a.kv_heads()} * a.head_dim();
  v.expect("q", v.in(0), Rows::tokens, queries);
  v.expect("k", v.in(1), Rows::tokens, keys);
  v.expect("v", v.in(2), Rows::tokens, keys);
  v.expect("output", v.out(), Rows::tokens, queries);
  check_cache_use(v, a);
}

// ---- experts ----

void check_router(const op_view& v) {
  const RouterAttrs& a = *v.op.attrs_as_RouterAttrs();
  const Tensor& logits = v.in(0);
  v.expect_range("experts", a.experts(), 1, max_dimension);
  v.expect_range("top_k", a.top_k(), 1, a.experts());
  v.expect_enum("score", a.score(), RouterScore::sigmoid);
  v.expect_enum("norm", a.norm(), RouterNorm::sum);
  v.expect_positive("norm_power", a.norm_power());
  v.expect_positive("scale", a.scale());
  v.expect("logits", logits, logits.rows(), a.experts());
  v.expect("output weights", v.out(0), logits.rows(), a.top_k());
  v.expect("output experts", v.out(1), logits.rows(), a.top_k(), DType::i32);
  v.history.chosen_from[v.op.outputs()->Get(1)] = a.experts();
}

void check_experts(const op_view& v) {
  const Tensor& x = v.in(0);
  v.expect_f32("x", x);
  v.expect("weights", v.in(1), x.rows(), op_view::width(v.in(1)));
  v.expect("experts", v.in(2), x.rows(), op_view::width(v.in(1)), DType::i32);
  v.expect_like("output", v.out(), x);
  v.expect_enum("activation", v.op.attrs_as_ExpertsAttrs()->activation(), Activation::gelu_tanh);
  const auto gate = values(v.weight(0).shape());
  if (gate.size() != 3 || gate[2] != op_view::width(x))
    refuse(v.where, "gate {}: expected [E, F, {}], found {}", text(v.weight(0).name()), op_view::width(x),
           shape_text(gate));
  v.expect_weight("up", 1, gate);
  v.expect_weight("down", 2, {gate[0], gate[2], gate[1]});
  const auto router = v.history.chosen_from.find(v.op.inputs()->Get(2));
  if (router == v.history.chosen_from.end() || router->second != gate[0])
    refuse(v.where, "experts: expected ids chosen by a router among {}, found {}", gate[0],
           router == v.history.chosen_from.end() ? "another tensor"
                                                 : fmt::format("a router of {}", router->second));
}

constexpr count_range none{0, 0}, one{1, 1}, two{2, 2}, three{3, 3}, any{0, max_native_operands};

//  kind, inputs, outputs, weights, attributes, uses a cache, what else must hold
constexpr op_rule rules[] = {
    {OpKind::embed, none, one, one, OpAttrs::NONE, false, check_embed},
    {OpKind::linear, one, one, {1, 2}, OpAttrs::NONE, false, check_linear},
    {OpKind::rms_norm, one, one, one, OpAttrs::NormAttrs, false, check_norm},
    {OpKind::add, two, one, none, OpAttrs::NONE, false, check_pair},
    {OpKind::rope, one, one, none, OpAttrs::RopeAttrs, false, check_rope},
    {OpKind::attention, three, one, none, OpAttrs::AttentionAttrs, true, check_attention},
    {OpKind::router, one, two, none, OpAttrs::RouterAttrs, false, check_router},
    {OpKind::experts, three, one, three, OpAttrs::ExpertsAttrs, false, check_experts},
    {OpKind::select_rows, one, one, none, OpAttrs::NONE, false, check_select_rows},
    {OpKind::layer_norm, one, one, {1, 2}, OpAttrs::NormAttrs, false, check_norm},
    {OpKind::clamp, one, one, none, OpAttrs::ClampAttrs, false, check_clamp},
    {OpKind::mul, two, one, none, OpAttrs::NONE, false, check_pair},
    {OpKind::activation, {1, 2}, one, none, OpAttrs::ActivationAttrs, false, check_activation},
    {OpKind::split, one, {2, most_parts}, none, OpAttrs::NONE, false, check_split},
    {OpKind::concat, {2, most_parts}, one, none, OpAttrs::NONE, false, check_concat},
    {OpKind::native, any, {1, max_native_operands}, any, OpAttrs::NativeAttrs, false, check_native},
};

}  // namespace

const op_rule* find_rule(OpKind kind) {
  for (const auto& rule : rules)
    if (rule.kind == kind) return &rule;
  return nullptr;
}

}  // namespace troupe::program
