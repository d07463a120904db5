#include "ops/backends/cuda/cuda_program.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>

#include "kernel/program/names.hpp"
#include "ops/activation/activation_cuda.hpp"
#include "ops/backends/cuda/native_launch.hpp"
#include "ops/backends/cuda/prepare.hpp"
#include "ops/backends/cuda/status.hpp"
#include "ops/elementwise/elementwise_cuda.hpp"
#include "ops/linear/linear_cuda.hpp"
#include "ops/moe/experts_cuda.hpp"
#include "ops/moe/router_cuda.hpp"
#include "ops/norm/norm_cuda.hpp"
#include "ops/rope/rope.hpp"
#include "ops/rope/rope_cuda.hpp"
#include "ops/rows/rows_cuda.hpp"

namespace troupe::ops::cuda {
namespace {

using program::DType;
using program::OpKind;

constexpr std::size_t small_product = 256;  // rows or columns below which the library is not asked

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

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

// A tensor of the Program in a step.
struct operand {
  std::uint32_t tensor = 0;
  std::size_t width = 0;
  bool of_logit_rows = false;

  std::size_t rows(const step_frame& f) const { return of_logit_rows ? f.logit_rows : f.tokens; }
  float* data(const step_frame& f) const { return f.arena + f.offsets[tensor]; }
  device_floats out(const step_frame& f) const { return {data(f), rows(f), width}; }
  device_inputs in(const step_frame& f) const { return {data(f), rows(f), width}; }
  device_rows<std::int32_t> integers(const step_frame& f) const {
    return {reinterpret_cast<std::int32_t*>(data(f)), rows(f), width};
  }
  // Each group of columns as a row.
  device_floats out_groups(const step_frame& f, std::size_t group) const {
    return {data(f), rows(f) * (width / group), group};
  }
  device_inputs in_groups(const step_frame& f, std::size_t group) const {
    return {data(f), rows(f) * (width / group), group};
  }
};

// Linear maps of one tensor.
struct linear_group {
  operand x;
  struct map {
    operand y;
    device_matrix weight;
    const float* bias = nullptr;
    bool exact = false;  // a router's logits
  };
  std::vector<map> maps;

  result<void> launch(const step_frame& f) const {
    const auto in = x.in(f);
    if (in.rows == 0) return {};
    std::vector<device_linear> few;
    __nv_bfloat16* rounded[2] = {};  // for bf16 and for int8
    for (const auto& m : maps) {
      const device_linear one{m.weight, m.bias, m.y.out(f)};
      if (m.exact) {
        linear_exact_cuda(f.stream, in, one);
        continue;
      }
      const bool tiles = linear_tiles_fit(m.weight);
      if (in.rows <= few_rows || !tiles) {
        few.push_back(one);
        continue;
      }
      auto*& own = rounded[m.weight.int8()];
      if (own == nullptr) {
        const std::size_t before = m.weight.int8() ? round_up(in.rows * in.width * sizeof(__nv_bfloat16)) : 0;
        own = reinterpret_cast<__nv_bfloat16*>(f.workspace + before);
        to_bf16_cuda(f.stream, own, in, m.weight.int8());
      }
      const device_rows<const __nv_bfloat16> rows{own, in.rows, in.width};
      if (m.weight.int8() || m.weight.rows < small_product || m.weight.columns < small_product) {
        linear_tiles_cuda(f.stream, rows, one, f.limits);
        continue;
      }
      if (auto done = f.products->multiply(f.stream, one.y, rows, one.weight); !done) return done;
      if (m.bias != nullptr) add_bias_cuda(f.stream, one.y, m.bias);
    }
    launch_few(f, in, few);
    return {};
  }
  // In slices of few_rows rows and launches of linear_parts maps of one kind.
  static void launch_few(const step_frame& f, device_inputs in, const std::vector<device_linear>& maps) {
    for (std::size_t begin = 0; begin < maps.size();) {
      std::size_t end = begin + 1;
      while (end < maps.size() && end - begin < linear_parts &&
             maps[end].weight.int8() == maps[begin].weight.int8())
        ++end;
      for (std::size_t first = 0; first < in.rows; first += few_rows) {
        const std::size_t rows = std::min(few_rows, in.rows - first);
        std::vector<device_linear> slice(maps.begin() + static_cast<std::ptrdiff_t>(begin),
                                         maps.begin() + static_cast<std::ptrdiff_t>(end));
        for (auto& one : slice) one.y = {one.y.data + first * one.y.width, rows, one.y.width};
        linear_few_cuda(f.stream, {in.data + first * in.width, rows, in.width}, slice, f.limits);
      }
      begin = end;
    }
  }
};

class compiler {
 public:
  compiler(const program::Program& program, const std::vector<checkpoint::bound_weight>& bound,
           weight_store& weights, const program::native_ops& native, const kv_places& kv)
      : program_(program), bound_(bound), weights_(weights), native_(native), kv_(kv) {
    out_.native_ops = native;
  }

  result<cuda_program> run() {
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

 private:
  result<void> check_weights() const {
    for (std::size_t i = 0; i < bound_.size(); ++i) {
      const DType dtype = bound_[i].dtype;
      if (dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16) continue;
      return fail(error_code::unsupported, "weight {}: dtype {} (the cuda backend takes f32, bf16 and f16)",
                  program_.weights()->Get(static_cast<unsigned>(i))->name()->str(),
                  program::EnumNameDType(dtype));
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
      if (cache->dtype() != DType::none && cache->dtype() != DType::bf16)
        return fail(error_code::unsupported, "cache {}: dtype {} (the cuda backend keeps bf16)",
                    cache->name()->str(), program::EnumNameDType(cache->dtype()));
      cache_starts_.push_back(out_.kv_numbers);
      out_.kv_numbers += std::size_t{2} * cache->layers() * cache->kv_heads() * cache->head_dim();
    }
    return {};
  }
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

  result<void> add(const program::Op& op) {
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
        push(op, [x = input(op, 0), y = output(op, 0), w = weights_.vector(weight(op, 0)),
                  group = bound_[weight(op, 0)].columns,
                  eps = op.attrs_as_NormAttrs()->eps()](const step_frame& f) {
          rms_norm_cuda(f.stream, y.out_groups(f, group), x.in_groups(f, group), w, eps);
        });
        return {};
      case OpKind::layer_norm:
        push(op, [x = input(op, 0), y = output(op, 0), w = weights_.vector(weight(op, 0)), b = bias(op),
                  group = bound_[weight(op, 0)].columns,
                  eps = op.attrs_as_NormAttrs()->eps()](const step_frame& f) {
          layer_norm_cuda(f.stream, y.out_groups(f, group), x.in_groups(f, group), w, b, eps);
        });
        return {};
      case OpKind::add:
        push(op, [a = input(op, 0), b = input(op, 1), y = output(op, 0)](const step_frame& f) {
          add_cuda(f.stream, y.out(f), a.in(f), b.in(f));
        });
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

  void add_linear(const program::Op& op) {
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
  void close_linear() {
    if (linear_.maps.empty()) return;
    out_.workspaces.push_back([width = linear_.x.width](std::size_t rows, std::size_t, std::size_t) {
      return 2 * round_up(rows * width * sizeof(__nv_bfloat16));
    });
    out_.ops.push_back(
        {linear_where_, [group = std::move(linear_)](const step_frame& f) { return group.launch(f); }});
    linear_ = {};
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
    push(op, [x = input(op, 0), y = output(op, 0), index, head_dim = attrs.head_dim(),
              interleaved = attrs.layout() == program::RopeLayout::interleaved](const step_frame& f) {
      const auto as_input = [](device_floats t) { return device_inputs{t.data, t.rows, t.width}; };
      rope_cuda(f.stream, y.out(f), x.in(f), as_input(f.cosines[index]), as_input(f.sines[index]), head_dim,
                interleaved);
    });
  }

  result<void> add_attention(const program::Op& op) {
    const auto& attrs = *op.attrs_as_AttentionAttrs();
    if (attrs.head_dim() > widest_head)
      return fail(error_code::unsupported, "{}: heads of {} numbers, the cuda backend has up to {}",
                  place_of(op), attrs.head_dim(), widest_head);
    const auto& cache = *program_.caches()->Get(static_cast<unsigned>(op.cache()));
    const std::size_t per_layer = std::size_t{2} * cache.kv_heads() * cache.head_dim();
    const std::size_t before =
        cache_starts_[static_cast<std::size_t>(op.cache())] + attrs.cache_layer() * per_layer;
    const device_attention shape{attrs.heads(), attrs.kv_heads(), attrs.head_dim(),
                                 attrs.scale(), cache.window(),   attrs.soft_cap()};
    const std::size_t partial = std::size_t{shape.heads} * (shape.head_dim + 2) * sizeof(float);
    out_.workspaces.push_back(
        [partial](std::size_t, std::size_t, std::size_t parts) { return round_up(parts * partial); });
    const bool tiles = shape.head_dim % 8 == 0 && shape.heads / shape.kv_heads <= widest_group;
    out_.tile_tokens = tiles ? std::min(out_.tile_tokens, ops::tile_tokens(shape)) : 0;
    const auto known = std::find(out_.windows.begin(), out_.windows.end(), cache.window());
    const auto window = static_cast<std::size_t>(known - out_.windows.begin());
    if (known == out_.windows.end()) out_.windows.push_back(cache.window());
    push(op, [q = input(op, 0), k = input(op, 1), v = input(op, 2), y = output(op, 0), before, shape, window,
              kv = &kv_](const step_frame& f) {
      const device_kv at{kv->pool, kv->block_stride, before * kv->block_tokens, kv->block_tokens};
      auto tables = f.tables;
      tables.parts = f.parts[window].parts;
      tables.part_count = f.parts[window].count;
      write_kv_cuda(f.stream, at, k.in(f), v.in(f), tables, shape);
      attend_alone_cuda(f.stream, y.out(f), q.in(f), at, tables, shape, f.parts[window].limit,
                        reinterpret_cast<float*>(f.workspace), f.limits);
      attend_tiles_cuda(f.stream, y.out(f), q.in(f), at, f.tables, shape, f.tile_count);
    });
    return {};
  }

  void add_router(const program::Op& op) {
    const auto& attrs = *op.attrs_as_RouterAttrs();
    const device_router rule{attrs.top_k(), attrs.score() == program::RouterScore::sigmoid,
                             attrs.norm() == program::RouterNorm::sum, attrs.norm_power(), attrs.scale()};
    const std::size_t first_mark = out_.expert_marks;
    out_.routers.push_back(input(op, 0).width);
    out_.expert_marks += input(op, 0).width;
    push(op, [x = input(op, 0), weights = output(op, 0), experts = output(op, 1), rule,
              first_mark](const step_frame& f) {
      router_cuda(f.stream, weights.out(f), experts.integers(f), x.in(f),
                  x.of_logit_rows ? nullptr : f.tables.positions, rule);
      if (f.expert_marks != nullptr) {
        const auto chosen = experts.integers(f);
        mark_chosen(f.stream, f.expert_marks + first_mark, chosen.data, chosen.rows * chosen.width);
      }
    });
  }

  result<void> add_experts(const program::Op& op) {
    const auto gate = weights_.planes(weight(op, 0)), up = weights_.planes(weight(op, 1)),
               down = weights_.planes(weight(op, 2));
    if ((gate.scales == nullptr) != (up.scales == nullptr) ||
        (gate.scales == nullptr) != (down.scales == nullptr))
      return fail(error_code::unsupported, "{}: of gate, up and down some may be quantized and some not",
                  place_of(op));
    device_experts mlp{gate.data,
                       up.data,
                       down.data,
                       gate.scales,
                       up.scales,
                       down.scales,
                       bound_[weight(op, 0)].planes.size(),
                       bound_[weight(op, 0)].rows,
                       to_activation(op.attrs_as_ExpertsAttrs()->activation())};
    const auto x = input(op, 0), experts = input(op, 2);
    out_.workspaces.push_back(
        [width = x.width, k = experts.width, mlp](std::size_t rows, std::size_t, std::size_t) {
          return experts_workspace(rows, width, k, mlp);
        });
    push(op, [x, weights = input(op, 1), experts, y = output(op, 0), mlp](const step_frame& f) {
      const auto chosen = experts.integers(f);
      experts_cuda(f.stream, y.out(f), x.in(f), weights.in(f), {chosen.data, chosen.rows, chosen.width}, mlp,
                   f.workspace, f.limits);
    });
    return {};
  }

  result<void> add_native(const program::Op& op) {
    close_linear();
    std::vector<std::size_t> states;
    const auto* uses = op.attrs_as_NativeAttrs()->states();
    const std::size_t first_state = out_.states.size();
    for (unsigned i = 0; uses != nullptr && i < uses->size(); ++i) {
      const auto& use = *uses->Get(i);
      out_.states.push_back(cache_starts_[use.cache()] +
                            use.layer() * layer_floats(*program_.caches()->Get(use.cache())));
    }
    auto made = native_launch::make(program_, index_, native_, bound_, weights_, first_state);
    if (!made) return fail(std::move(made.error()));
    std::shared_ptr<native_launch> call = std::move(*made);
    out_.workspaces.push_back([call](std::size_t rows, std::size_t sequences, std::size_t) {
      return round_up(call->workspace(rows, sequences));
    });
    out_.ops.push_back(
        {place_of(op), [call, inputs = all(op.inputs()), outputs = all(op.outputs())](const step_frame& f) {
           std::vector<void*> in, out;
           for (const auto& one : inputs) in.push_back(one.data(f));
           for (const auto& one : outputs) out.push_back(one.data(f));
           return call->launch(f, outputs[0].rows(f), outputs[0].of_logit_rows, in, out);
         }});
    return {};
  }

  void list_tensors() {
    for (const auto* tensor : *program_.tensors()) {
      std::size_t width = 1;
      for (const std::uint64_t size : *tensor->shape()) width *= size;
      out_.tensors.push_back({tensor->rows() == program::Rows::logit_rows, width, 0, 0});
    }
  }

  // Lives count in launches, not in ops: a joined one writes all its tensors at once. Open linear maps will be the next launch.
  void note_lives(const program::Op& op) {
    const std::size_t at = linear_.maps.empty() ? out_.ops.size() - 1 : out_.ops.size();
    for (const std::uint32_t tensor : program::values(op.inputs())) out_.tensors[tensor].last = at;
    for (const std::uint32_t tensor : program::values(op.outputs()))
      out_.tensors[tensor].first = out_.tensors[tensor].last = at;
  }

  void place_results() {
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

  const program::Program& program_;
  const std::vector<checkpoint::bound_weight>& bound_;
  weight_store& weights_;
  const program::native_ops& native_;
  const kv_places& kv_;
  cuda_program out_;
  std::vector<std::size_t> cache_starts_;
  std::set<std::uint32_t> routed_;  // tensors that a router reads
  linear_group linear_;             // not yet pushed
  std::string linear_where_;
  std::uint32_t index_ = 0;
};

}  // namespace

result<cuda_program> compile(const program::Program& program,
                             const std::vector<checkpoint::bound_weight>& bound, weight_store& weights,
                             const program::native_ops& native, const kv_places& kv) {
  return compiler(program, bound, weights, native, kv).run();
}

}  // namespace troupe::ops::cuda
