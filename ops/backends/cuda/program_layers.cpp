// The ops of a Program that take more than a line: norms, rotary embedding, attention, routers, experts, native ops.
#include <algorithm>

#include "ops/backends/cuda/native_launch.hpp"
#include "ops/backends/cuda/prepare.hpp"
#include "ops/backends/cuda/program_compiler.hpp"
#include "ops/moe/experts_cuda.hpp"
#include "ops/moe/router_cuda.hpp"
#include "ops/norm/norm_cuda.hpp"
#include "ops/rope/rope.hpp"
#include "ops/rope/rope_cuda.hpp"

namespace troupe::ops::cuda {
namespace {

using program::OpKind;

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

}  // namespace

void program_compiler::add_norm(const program::Op& op) {
  const auto x = input(op, 0), y = output(op, 0);
  const auto* w = weights_.vector(weight(op, 0));
  const auto* b = bias(op);
  const std::size_t group = bound_[weight(op, 0)].columns;
  const float eps = op.attrs_as_NormAttrs()->eps();
  const bool centred = op.kind() == OpKind::layer_norm;
  const bool of_sum = linear_.maps.empty() && sum_.launch == out_.ops.size() && sum_.launch > 0 &&
                      sum_.y.tensor == x.tensor && group == x.width && norm_of_sum_serves(group);
  if (of_sum) {
    out_.ops.back() = {place_of(op), [s = sum_, y, w, b, eps, centred](const step_frame& f) -> result<void> {
                         if (centred)
                           layer_norm_of_sum_cuda(f.stream, y.out(f), s.y.out(f), s.a.in(f), s.b.in(f), w, b,
                                                  eps);
                         else
                           rms_norm_of_sum_cuda(f.stream, y.out(f), s.y.out(f), s.a.in(f), s.b.in(f), w, eps);
                         return {};
                       }};
    return;
  }
  push(op, [x, y, w, b, group, eps, centred](const step_frame& f) {
    if (centred)
      layer_norm_cuda(f.stream, y.out_groups(f, group), x.in_groups(f, group), w, b, eps);
    else
      rms_norm_cuda(f.stream, y.out_groups(f, group), x.in_groups(f, group), w, eps);
  });
}

void program_compiler::add_rope(const program::Op& op) {
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

result<void> program_compiler::add_attention(const program::Op& op) {
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

void program_compiler::add_router(const program::Op& op) {
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

result<void> program_compiler::add_experts(const program::Op& op) {
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
  mlp.gate_stack = gate.stack;
  mlp.up_stack = up.stack;
  mlp.down_stack = down.stack;
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

result<void> program_compiler::add_native(const program::Op& op) {
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

}  // namespace troupe::ops::cuda
