#include "ops/backends/cpu/compiled_program.hpp"

#include <algorithm>
#include <limits>

#include "kernel/program/names.hpp"

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
    list_tensors();
    for (index_ = 0; index_ < program_.ops()->size(); ++index_) {
      const auto& op = *program_.ops()->Get(index_);
      if (auto ok = add(op); !ok) return fail(std::move(ok.error()));
      note_lives(op);
    }
    place_results();
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

  weight_matrix matrix(std::uint32_t weight, std::size_t plane = 0) const {
    const auto& bound = weights_[weight];
    return {bound.dtype, bound.planes[plane], bound.rows, bound.columns};
  }
  weight_matrix weight(const program::Op& op, unsigned i) const { return matrix(op.weights()->Get(i)); }
  weight_matrix bias(const program::Op& op) const {  // the second weight of linear and layer_norm, if any
    return op.weights()->size() > 1 ? weight(op, 1) : weight_matrix{};
  }
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
            rms_norm_step{input(op, 0), output(op, 0), weight(op, 0), op.attrs_as_NormAttrs()->eps()});
        return {};
      case OpKind::layer_norm:
        out_.steps.push_back(layer_norm_step{
            input(op, 0), output(op, 0), {weight(op, 0), bias(op)}, op.attrs_as_NormAttrs()->eps()});
        return {};
      case OpKind::add:
        out_.steps.push_back(add_step{input(op, 0), input(op, 1), output(op, 0)});
        return {};
      case OpKind::mul:
        out_.steps.push_back(mul_step{input(op, 0), input(op, 1), output(op, 0)});
        return {};
      case OpKind::clamp:
        out_.steps.push_back(clamp_step{
            input(op, 0), output(op, 0), {op.attrs_as_ClampAttrs()->min(), op.attrs_as_ClampAttrs()->max()}});
        return {};
      case OpKind::activation:
        add_activation(op);
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
      case OpKind::split:
        out_.steps.push_back(split_step{input(op, 0), program::values(op.outputs())});
        return {};
      case OpKind::concat:
        out_.steps.push_back(concat_step{program::values(op.inputs()), output(op, 0)});
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
    previous->maps.push_back({weight(op, 0), bias(op), {}});
  }

  static activation to_activation(program::Activation kind) {
    switch (kind) {
      case program::Activation::gelu:
        return activation::gelu;
      case program::Activation::gelu_tanh:
        return activation::gelu_tanh;
      case program::Activation::relu:
        return activation::relu;
      case program::Activation::silu:
        break;
    }
    return activation::silu;
  }

  void add_activation(const program::Op& op) {
    activation_step made{input(op, 0), output(op, 0), std::nullopt,
                         to_activation(op.attrs_as_ActivationAttrs()->activation())};
    if (op.inputs()->size() > 1) made.factor = input(op, 1);
    out_.steps.push_back(made);
  }

  void add_rope(const program::Op& op) {
    const auto& attrs = *op.attrs_as_RopeAttrs();
    rope_frequency_set wanted{program::values(attrs.frequencies()), attrs.amplitude()};
    if (wanted.frequencies.empty()) {
      wanted.frequencies.resize(attrs.rotary_dim() / 2);
      rope_frequencies(wanted.frequencies, attrs.rotary_dim(), attrs.theta());
    }
    const auto found = std::find(out_.rope_tables.begin(), out_.rope_tables.end(), wanted);
    const auto index = static_cast<std::size_t>(found - out_.rope_tables.begin());
    if (found == out_.rope_tables.end()) out_.rope_tables.push_back(std::move(wanted));
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
    out_.steps.push_back(attention_step{input(op, 0),
                                        input(op, 1),
                                        input(op, 2),
                                        output(op, 0),
                                        before,
                                        {attrs.heads(), attrs.kv_heads(), attrs.head_dim(), attrs.scale(),
                                         cache.window(), attrs.soft_cap()}});
  }

  void add_router(const program::Op& op) {
    const auto& attrs = *op.attrs_as_RouterAttrs();
    const router_rule rule{attrs.top_k(), attrs.score() == program::RouterScore::sigmoid,
                           attrs.norm() == program::RouterNorm::sum, attrs.norm_power(), attrs.scale()};
    out_.steps.push_back(router_step{input(op, 0), output(op, 0), output(op, 1), rule});
  }

  result<void> add_experts(const program::Op& op) {
    experts_step made{
        input(op, 0),  input(op, 1),  input(op, 2),  output(op, 0),
        planes(op, 0), planes(op, 1), planes(op, 2), to_activation(op.attrs_as_ExpertsAttrs()->activation())};
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

  void list_tensors() {
    for (const auto* tensor : *program_.tensors()) {
      std::size_t width = 1;
      for (const std::uint64_t size : *tensor->shape()) width *= size;
      out_.tensors.push_back({tensor->rows() == program::Rows::logit_rows, width, 0, 0});
    }
  }

  // Lives count in steps, not in ops: a joined step writes all its tensors at once.
  void note_lives(const program::Op& op) {
    const std::size_t at = out_.steps.size() - 1;
    for (const std::uint32_t tensor : program::values(op.inputs())) out_.tensors[tensor].last = at;
    for (const std::uint32_t tensor : program::values(op.outputs()))
      out_.tensors[tensor].first = out_.tensors[tensor].last = at;
  }

  void place_results() {
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
