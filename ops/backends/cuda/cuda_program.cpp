#include "ops/backends/cuda/cuda_program.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "ops/activation/activation_cuda.hpp"
#include "ops/backends/cuda/program_compiler.hpp"
#include "ops/elementwise/elementwise_cuda.hpp"
#include "ops/rows/rows_cuda.hpp"

namespace troupe::ops::cuda {

using program::DType;
using program::OpKind;

activation to_activation(program::Activation kind) {
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

result<cuda_program> program_compiler::run() {
  if (auto ok = check_weights(); !ok) return fail(std::move(ok.error()));
  if (auto ok = program::check_native_ops(program_, native_); !ok) return fail(std::move(ok.error()));
  if (auto ok = place_caches(); !ok) return fail(std::move(ok.error()));
  for (const auto* op : *program_.ops())
    if (op->kind() == OpKind::router) routed_.insert(op->inputs()->Get(0));
  list_tensors();
  for (index_ = 0; index_ < program_.ops()->size(); ++index_) {
    const auto& op = *program_.ops()->Get(index_);
    if (auto ok = add(op); !ok) return fail(std::move(ok.error()));
    note_lives(op);
  }
  close_linear();
  place_results();
  return std::move(out_);
}

result<void> program_compiler::check_weights() const {
  for (std::size_t i = 0; i < bound_.size(); ++i) {
    const DType dtype = bound_[i].dtype;
    if (dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16) continue;
    return fail(error_code::unsupported, "weight {}: dtype {} (the cuda backend takes f32, bf16 and f16)",
                program_.weights()->Get(static_cast<unsigned>(i))->name()->str(),
                program::EnumNameDType(dtype));
  }
  return {};
}

result<void> program_compiler::place_caches() {
  for (const auto* cache : *program_.caches()) {
    if (cache->kind() == program::CacheKind::recurrent) {
      cache_starts_.push_back(out_.state_floats);
      out_.state_floats += cache->layers() * layer_floats(*cache);
      continue;
    }
    if (cache->dtype() != DType::none && cache->dtype() != DType::bf16)
      return fail(error_code::unsupported, "cache {}: dtype {} (the cuda backend keeps bf16)",
                  cache->name()->str(), program::EnumNameDType(cache->dtype()));
    cache_starts_.push_back(out_.kv_numbers);
    out_.kv_numbers += std::size_t{2} * cache->layers() * cache->kv_heads() * cache->head_dim();
  }
  return {};
}

result<void> program_compiler::add(const program::Op& op) {
  switch (op.kind()) {
    case OpKind::embed:
      push(op, [y = output(op, 0), table = weights_.matrix(weight(op, 0), true)](const step_frame& f) {
        embed_cuda(f.stream, y.out(f), f.token_ids, table);
      });
      return {};
    case OpKind::linear:
      add_linear(op);
      return {};
    case OpKind::rms_norm:
    case OpKind::layer_norm:
      add_norm(op);
      return {};
    case OpKind::add:
      push(op, [a = input(op, 0), b = input(op, 1), y = output(op, 0)](const step_frame& f) {
        add_cuda(f.stream, y.out(f), a.in(f), b.in(f));
      });
      sum_ = {out_.ops.size(), input(op, 0), input(op, 1), output(op, 0)};
      return {};
    case OpKind::mul:
      push(op, [a = input(op, 0), b = input(op, 1), y = output(op, 0)](const step_frame& f) {
        mul_cuda(f.stream, y.out(f), a.in(f), b.in(f));
      });
      return {};
    case OpKind::clamp:
      push(op, [x = input(op, 0), y = output(op, 0), min = op.attrs_as_ClampAttrs()->min(),
                max = op.attrs_as_ClampAttrs()->max()](const step_frame& f) {
        clamp_cuda(f.stream, y.out(f), x.in(f), min, max);
      });
      return {};
    case OpKind::activation: {
      std::optional<operand> factor;
      if (op.inputs()->size() > 1) factor = input(op, 1);
      push(op, [x = input(op, 0), y = output(op, 0), factor,
                act = to_activation(op.attrs_as_ActivationAttrs()->activation())](const step_frame& f) {
        activation_cuda(f.stream, y.out(f), x.in(f), factor ? factor->in(f) : device_inputs{}, act);
      });
      return {};
    }
    case OpKind::rope:
      add_rope(op);
      return {};
    case OpKind::attention:
      return add_attention(op);
    case OpKind::router:
      add_router(op);
      return {};
    case OpKind::experts:
      return add_experts(op);
    case OpKind::select_rows:
      push(op, [x = input(op, 0), y = output(op, 0)](const step_frame& f) {
        select_rows_cuda(f.stream, y.out(f), x.in(f), f.rows_wanted);
      });
      return {};
    case OpKind::split:
      push(op, [x = input(op, 0), y = all(op.outputs())](const step_frame& f) {
        std::vector<device_floats> parts;
        for (const auto& one : y) parts.push_back(one.out(f));
        split_cuda(f.stream, parts, x.in(f));
      });
      return {};
    case OpKind::concat:
      push(op, [x = all(op.inputs()), y = output(op, 0)](const step_frame& f) {
        std::vector<device_inputs> parts;
        for (const auto& one : x) parts.push_back(one.in(f));
        concat_cuda(f.stream, y.out(f), parts);
      });
      return {};
    case OpKind::native:
      return add_native(op);
    case OpKind::none:
      break;
  }
  return fail(error_code::unsupported, "{}: the cuda backend does not have it", place_of(op));
}

void program_compiler::add_linear(const program::Op& op) {
  const auto x = input(op, 0);
  if (linear_.x.tensor != x.tensor || linear_.maps.size() == linear_parts) close_linear();
  if (linear_.maps.empty()) {
    linear_.x = x;
    linear_where_ = place_of(op);
  }
  const auto y = output(op, 0);
  const bool exact = routed_.contains(y.tensor);
  linear_.maps.push_back({y, weights_.matrix(weight(op, 0), exact), bias(op), exact});
}

void program_compiler::close_linear() {
  if (linear_.maps.empty()) return;
  out_.workspaces.push_back([width = linear_.x.width](std::size_t rows, std::size_t, std::size_t) {
    return linear_group::workspace(rows, width);
  });
  out_.ops.push_back(
      {linear_where_, [group = std::move(linear_)](const step_frame& f) { return group.launch(f); }});
  linear_ = {};
}

void program_compiler::list_tensors() {
  for (const auto* tensor : *program_.tensors()) {
    std::size_t width = 1;
    for (const std::uint64_t size : *tensor->shape()) width *= size;
    out_.tensors.push_back({tensor->rows() == program::Rows::logit_rows, width, 0, 0});
  }
}

void program_compiler::note_lives(const program::Op& op) {
  const std::size_t at = linear_.maps.empty() ? out_.ops.size() - 1 : out_.ops.size();
  for (const std::uint32_t tensor : program::values(op.inputs())) out_.tensors[tensor].last = at;
  for (const std::uint32_t tensor : program::values(op.outputs()))
    out_.tensors[tensor].first = out_.tensors[tensor].last = at;
}

void program_compiler::place_results() {
  out_.logits = program_.logits();
  out_.context_tokens = program_.facts()->context_tokens();
  out_.vocabulary = out_.tensors[out_.logits].width;
  out_.tensors[out_.logits].last = std::numeric_limits<std::size_t>::max();
  if (program_.probes() != nullptr)
    for (const auto* probe : *program_.probes())
      out_.probes.push_back({probe->name()->str(), probe->tensor()});
  out_.sharing = memory_plan::sharing(out_.tensors);
  out_.separate = memory_plan::separate(out_.tensors);
}

result<cuda_program> compile(const program::Program& program,
                             const std::vector<checkpoint::bound_weight>& bound, weight_store& weights,
                             const program::native_ops& native, const kv_places& kv) {
  return program_compiler(program, bound, weights, native, kv).run();
}

}  // namespace troupe::ops::cuda
