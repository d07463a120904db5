#include "ops/backends/cpu/compiled_program.hpp"

#include <algorithm>
#include <limits>

namespace troupe::ops::cpu {
namespace {

using program::OpKind;

// Reads one Program; holds what is being built.
class compiler {
 public:
  compiler(const program::Program& program, const std::vector<checkpoint::bound_weight>& weights,
           const program::native_ops& native)
      : program_(program), weights_(weights) {
    out_.native_ops = native;
  }

  result<compiled_program> run() {
    if (auto ok = check_weights(); !ok) return fail(std::move(ok.error()));
    if (auto ok = program::check_native_ops(program_, out_.native_ops); !ok)
      return fail(std::move(ok.error()));
    if (auto ok = place_caches(); !ok) return fail(std::move(ok.error()));
    for (index_ = 0; index_ < program_.ops()->size(); ++index_) {
      if (auto ok = add(*program_.ops()->Get(index_)); !ok) return fail(std::move(ok.error()));
    }
    plan_memory();
    return std::move(out_);
  }

 private:
  result<void> check_weights() const {
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      const DType dtype = weights_[i].dtype;
      if (dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16) continue;
      return fail(error_code::unsupported,
                  "weight {}: dtype {} (the cpu backend computes with f32, bf16 and f16)",
                  program_.weights()->Get(i)->name()->str(), program::EnumNameDType(dtype));
    }
    return {};
  }

  result<void> place_caches() {
    for (const auto* cache : *program_.caches()) {
      if (cache->kind() == program::CacheKind::recurrent) {
        cache_starts_.push_back(out_.state_floats);
        out_.state_floats += cache->layers() * layer_floats(*cache);
        continue;
      }
      if (cache->dtype() != DType::none && cache->dtype() != DType::f32) {
        return fail(error_code::unsupported, "cache {}: dtype {} (the cpu backend keeps f32)",
                    cache->name()->str(), program::EnumNameDType(cache->dtype()));
      }
      cache_starts_.push_back(out_.kv_floats);
      out_.kv_floats += std::size_t{2} * cache->layers() * cache->kv_heads() * cache->head_dim();
    }
    return {};
  }

  // Of one layer of a recurrent cache, with the gap behind it.
  static std::size_t layer_floats(const program::Cache& cache) {
    std::size_t floats = 1;
    for (const std::uint64_t size : *cache.shape()) floats *= size;
    return (floats + 15) / 16 * 16;
  }

  static std::uint32_t input(const program::Op& op, unsigned i) { return op.inputs()->Get(i); }
  static std::uint32_t output(const program::Op& op, unsigned i) { return op.outputs()->Get(i); }
  static unsigned weight_count(const program::Op& op) {
    return op.weights() == nullptr ? 0 : op.weights()->size();
  }

  weight_matrix matrix(std::uint32_t weight, std::size_t plane = 0) const {
    const auto& bound = weights_[weight];
    return {bound.dtype, bound.planes[plane], bound.rows, bound.columns};
  }
  weight_matrix weight(const program::Op& op, unsigned i) const { return matrix(op.weights()->Get(i)); }
  std::vector<weight_matrix> planes(const program::Op& op, unsigned i) const {
    std::vector<weight_matrix> all;
    const std::uint32_t weight = op.weights()->Get(i);
    for (std::size_t plane = 0; plane < weights_[weight].planes.size(); ++plane)
      all.push_back(matrix(weight, plane));
    return all;
  }

  result<void> add(const program::Op& op) {
    switch (op.kind()) {
      case OpKind::embed:
        out_.steps.push_back(embed_step{output(op, 0), weight(op, 0)});
        return {};
      case OpKind::linear:
        add_linear(op);
        return {};
      case OpKind::rms_norm:
        out_.steps.push_back(
            norm_step{input(op, 0), output(op, 0), weight(op, 0), op.attrs_as_NormAttrs()->eps()});
        return {};
      case OpKind::add:
        out_.steps.push_back(add_step{input(op, 0), input(op, 1), output(op, 0)});
        return {};
      case OpKind::rope:
        add_rope(op);
        return {};
      case OpKind::attention:
        add_attention(op);
        return {};
      case OpKind::router:
        add_router(op);
        return {};
      case OpKind::experts:
        return add_experts(op);
      case OpKind::select_rows:
        out_.steps.push_back(select_step{input(op, 0), output(op, 0)});
        return {};
      case OpKind::native:
        add_native(op);
        return {};
      case OpKind::none:
        break;
    }
    return fail(error_code::unsupported, "op {} ({}): the cpu backend does not have it",
                static_cast<unsigned>(op.kind()), op.scope() == nullptr ? "" : op.scope()->str());
  }

  void add_linear(const program::Op& op) {
    auto* previous = out_.steps.empty() ? nullptr : std::get_if<linear_step>(&out_.steps.back());
    if (previous == nullptr || previous->x != input(op, 0)) {
      out_.steps.push_back(linear_step{input(op, 0), {}, {}});
      previous = &std::get<linear_step>(out_.steps.back());
    }
    previous->y.push_back(output(op, 0));
    previous->maps.push_back({weight(op, 0), weight_count(op) > 1 ? weight(op, 1) : weight_matrix{}, {}});
  }

  void add_rope(const program::Op& op) {
    const auto& attrs = *op.attrs_as_RopeAttrs();
    const auto found = std::find_if(out_.rope_tables.begin(), out_.rope_tables.end(), [&](const auto& table) {
      return table.theta == attrs.theta() && table.rotary_dim == attrs.rotary_dim();
    });
    const auto index = static_cast<std::size_t>(found - out_.rope_tables.begin());
    if (found == out_.rope_tables.end()) {
      rope_frequency_set table{attrs.theta(), attrs.rotary_dim(), std::vector<float>(attrs.rotary_dim() / 2)};
      rope_frequencies(table.frequencies, table.rotary_dim, table.theta);
      out_.rope_tables.push_back(std::move(table));
    }
    const bool interleaved = attrs.layout() == program::RopeLayout::interleaved;
    out_.steps.push_back(
        rope_step{input(op, 0), output(op, 0), index, {attrs.head_dim(), attrs.rotary_dim(), interleaved}});
  }

  void add_attention(const program::Op& op) {
    const auto& attrs = *op.attrs_as_AttentionAttrs();
    const auto& cache = *program_.caches()->Get(static_cast<unsigned>(op.cache()));
    const std::size_t per_layer = std::size_t{2} * cache.kv_heads() * cache.head_dim();
    const std::size_t before =
        cache_starts_[static_cast<std::size_t>(op.cache())] + attrs.cache_layer() * per_layer;
    out_.steps.push_back(
        attention_step{input(op, 0),
                       input(op, 1),
                       input(op, 2),
                       output(op, 0),
                       before,
                       {attrs.heads(), attrs.kv_heads(), attrs.head_dim(), attrs.scale(), cache.window()}});
  }

  void add_router(const program::Op& op) {
    const auto& attrs = *op.attrs_as_RouterAttrs();
    const router_rule rule{attrs.top_k(), attrs.score() == program::RouterScore::sigmoid,
                           attrs.norm() == program::RouterNorm::sum};
    out_.steps.push_back(router_step{input(op, 0), output(op, 0), output(op, 1), rule});
  }

  result<void> add_experts(const program::Op& op) {
    const auto* attrs = op.attrs_as_ExpertsAttrs();
    const auto kind = attrs == nullptr ? program::Activation::silu : attrs->activation();
    const activation act = kind == program::Activation::gelu   ? activation::gelu
                           : kind == program::Activation::relu ? activation::relu
                                                               : activation::silu;
    experts_step made{input(op, 0),  input(op, 1),  input(op, 2),  output(op, 0),
                      planes(op, 0), planes(op, 1), planes(op, 2), act};
    if (made.gate[0].dtype != made.up[0].dtype) {
      return fail(error_code::unsupported,
                  "experts of {}: gate is {} and up is {}, the cpu backend wants one dtype",
                  op.scope() == nullptr ? "" : op.scope()->str(), program::EnumNameDType(made.gate[0].dtype),
                  program::EnumNameDType(made.up[0].dtype));
    }
    out_.steps.push_back(std::move(made));
    return {};
  }

  void add_native(const program::Op& op) {
    std::vector<std::size_t> states;
    const auto* uses = op.attrs_as_NativeAttrs()->states();
    for (unsigned i = 0; uses != nullptr && i < uses->size(); ++i) {
      const auto& use = *uses->Get(i);
      states.push_back(cache_starts_[use.cache()] +
                       use.layer() * layer_floats(*program_.caches()->Get(use.cache())));
    }
    out_.steps.push_back(make_native_step(program_, index_, out_.native_ops, weights_, std::move(states)));
  }

  // Lives count in steps, not in ops: a joined step writes all its tensors at once.
  void plan_memory() {
    for (const auto* tensor : *program_.tensors()) {
      std::size_t width = 1;
      for (const std::uint64_t size : *tensor->shape()) width *= size;
      out_.tensors.push_back({tensor->rows() == program::Rows::logit_rows, width, 0, 0});
    }
    for (std::size_t i = 0; i < out_.steps.size(); ++i) {
      std::visit([&](const auto& one) { note_lives(one, i); }, out_.steps[i]);
    }
    out_.logits = program_.logits();
    out_.vocabulary = out_.tensors[out_.logits].width;
    out_.tensors[out_.logits].last = std::numeric_limits<std::size_t>::max();
    if (program_.probes() != nullptr) {
      for (const auto* probe : *program_.probes())
        out_.probes.push_back({probe->name()->str(), probe->tensor()});
    }
    out_.sharing = memory_plan::sharing(out_.tensors);
    out_.separate = memory_plan::separate(out_.tensors);
  }

  void reads(std::uint32_t tensor, std::size_t at) { out_.tensors[tensor].last = at; }
  void writes(std::uint32_t tensor, std::size_t at) {
    out_.tensors[tensor].first = out_.tensors[tensor].last = at;
  }

  void note_lives(const embed_step& s, std::size_t at) { writes(s.y, at); }
  void note_lives(const linear_step& s, std::size_t at) {
    reads(s.x, at);
    for (const std::uint32_t y : s.y) writes(y, at);
  }
  void note_lives(const norm_step& s, std::size_t at) { reads(s.x, at), writes(s.y, at); }
  void note_lives(const add_step& s, std::size_t at) { reads(s.a, at), reads(s.b, at), writes(s.y, at); }
  void note_lives(const rope_step& s, std::size_t at) { reads(s.x, at), writes(s.y, at); }
  void note_lives(const attention_step& s, std::size_t at) {
    reads(s.q, at), reads(s.k, at), reads(s.v, at), writes(s.y, at);
  }
  void note_lives(const router_step& s, std::size_t at) {
    reads(s.x, at), writes(s.weights, at), writes(s.experts, at);
  }
  void note_lives(const experts_step& s, std::size_t at) {
    reads(s.x, at), reads(s.weights, at), reads(s.experts, at), writes(s.y, at);
  }
  void note_lives(const select_step& s, std::size_t at) { reads(s.x, at), writes(s.y, at); }
  void note_lives(const native_step& s, std::size_t at) {
    for (const std::uint32_t x : s.inputs) reads(x, at);
    for (const std::uint32_t y : s.outputs) writes(y, at);
  }

  const program::Program& program_;
  const std::vector<checkpoint::bound_weight>& weights_;
  compiled_program out_;
  std::vector<std::size_t> cache_starts_;  // floats before each cache, per token or in a slot
  std::uint32_t index_ = 0;                // of the op at hand
};

}  // namespace

result<compiled_program> compile(const program::Program& program,
                                 const std::vector<checkpoint::bound_weight>& weights,
                                 const program::native_ops& native) {
  return compiler(program, weights, native).run();
}

}  // namespace troupe::ops::cpu
