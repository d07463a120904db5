#include "ops/backends/cpu/cpu_model.hpp"

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernel/base/text.hpp"

namespace troupe::ops::cpu {

cpu_model::cpu_model(std::shared_ptr<device_state> device, program::verified_program source,
                     compiled_program program, std::vector<checkpoint::bound_weight> weights,
                     std::shared_ptr<const checkpoint::weights> files, std::unique_ptr<state_slots> states,
                     std::uint32_t block_tokens)
    : device_(std::move(device)),
      source_(std::move(source)),
      program_(std::move(program)),
      weights_(std::move(weights)),
      files_(std::move(files)),
      states_(std::move(states)),
      block_tokens_(block_tokens),
      check_({program_.vocabulary, program_.kv_floats != 0 ? block_tokens : 0, device_->pool->blocks(),
              program_.state_floats != 0, states_->slots()}),
      offsets_(program_.tensors.size()),
      rope_memory_(program_.rope_tables.size()),
      rope_tables_(program_.rope_tables.size()),
      samplers_(device_->threads.size()) {
  for (const auto& weight : weights_) {
    weight_bytes_ +=
        weight.planes.size() * weight.rows * weight.columns * (weight.dtype == DType::f32 ? 4 : 2);
  }
}

result<void> cpu_model::reserve(std::uint32_t tokens) {
  const std::uint64_t floats = program_.sharing.place(tokens, tokens, offsets_);
  const auto machine = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                       static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (floats > machine / 2 / sizeof(float)) {
    return fail(error_code::bad_config,
                "scheduler.step_tokens: the activations of a step of {} tokens take {} in this model, more "
                "than half of "
                "this machine's {}; lower it, or serve a smaller model",
                tokens, human_bytes(floats * sizeof(float)), human_bytes(machine));
  }
  arena_ = memory_.take<float>(floats);
  return {};
}

result<void> cpu_model::run(const step_batch& batch, std::span<probe_request> probes) {
  if (auto ok = check_.check(batch); !ok) return ok;
  if (auto ok = find_probes(probes); !ok) return ok;
  tokens_ = batch.tokens.size();
  logit_rows_ = batch.logit_rows.size();
  memory_plan& plan = probes.empty() ? program_.sharing : program_.separate;
  arena_ = memory_.take<float>(plan.place(tokens_, logit_rows_, offsets_));
  fill_rope_tables(batch);
  check_.enter(batch);
  enter_states(batch);
  for (auto& one : program_.steps) {
    const auto run_one = [&](auto& s) -> result<void> {
      if constexpr (std::is_same_v<decltype(s), native_step&>) {
        return run_step(s, batch);
      } else {
        run_step(s, batch);
        return {};
      }
    };
    if (auto ok = std::visit(run_one, one); !ok) return ok;
  }
  copy_probes(probes);
  return {};
}

void cpu_model::enter_states(const step_batch& batch) {
  const std::size_t sequences = batch.sequence_rows.size() - 1;
  first_positions_.clear();
  slots_.clear();
  for (std::size_t s = 0; s < sequences; ++s) {
    const std::size_t first = batch.sequence_rows[s], end = batch.sequence_rows[s + 1];
    const auto position = first == end ? 0 : static_cast<std::uint32_t>(batch.positions[first]);
    first_positions_.push_back(position);
    if (program_.state_floats == 0) continue;
    const std::uint32_t slot = batch.state_slots[s];
    slots_.push_back(states_->slot(slot));
    if (first == end) continue;
    if (position == 0) states_->clear(slot);
  }
}

result<void> cpu_model::find_probes(std::span<const probe_request> probes) {
  probed_.clear();
  for (const auto& probe : probes) {
    const auto found = std::find_if(program_.probes.begin(), program_.probes.end(),
                                    [&](const auto& known) { return known.name == probe.name; });
    if (found == program_.probes.end()) {
      return fail(error_code::invalid_request, "the Program has no probe {}", probe.name);
    }
    probed_.push_back(found->tensor);
  }
  return {};
}

void cpu_model::copy_probes(std::span<probe_request> probes) const {
  for (std::size_t i = 0; i < probes.size(); ++i) {
    const auto values = at(probed_[i]);
    probes[i].values.assign(values.data, values.data + values.rows * values.width);
  }
}

void cpu_model::fill_rope_tables(const step_batch& batch) {
  for (std::size_t i = 0; i < rope_tables_.size(); ++i) {
    const auto& [frequencies, amplitude] = program_.rope_tables[i];
    const std::size_t size = tokens_ * frequencies.size();
    float* memory = rope_memory_[i].take<float>(2 * size);
    const activations cosines{memory, tokens_, frequencies.size()};
    const activations sines{memory + size, tokens_, frequencies.size()};
    rope_angles(device_->context, cosines, sines, batch.positions, frequencies, amplitude);
    rope_tables_[i] = {cosines, sines};
  }
}

std::size_t cpu_model::rows_of_tensor(std::uint32_t tensor) const {
  return program_.tensors[tensor].logit_rows ? logit_rows_ : tokens_;
}

activations cpu_model::at(std::uint32_t tensor) const {
  return {arena_ + offsets_[tensor], rows_of_tensor(tensor), program_.tensors[tensor].width};
}

activations cpu_model::groups_at(std::uint32_t tensor, std::size_t width) const {
  const auto all = at(tensor);
  return {all.data, all.rows * (all.width / width), width};
}

indices cpu_model::indices_at(std::uint32_t tensor) const {
  static_assert(sizeof(std::int32_t) == sizeof(float));
  return {reinterpret_cast<std::int32_t*>(arena_ + offsets_[tensor]), rows_of_tensor(tensor),
          program_.tensors[tensor].width};
}

void cpu_model::run_step(const embed_step& s, const step_batch& batch) {
  device_->ops.embed(device_->context, at(s.y), batch.tokens, s.table);
}

void cpu_model::run_step(linear_step& s, const step_batch&) {
  for (std::size_t i = 0; i < s.y.size(); ++i) s.maps[i].y = at(s.y[i]);
  device_->ops.linear(device_->context, at(s.x), s.maps);
}

void cpu_model::run_step(const rms_norm_step& s, const step_batch&) {
  const std::size_t group = s.weight.columns;
  device_->ops.rms_norm(device_->context, groups_at(s.y, group), groups_at(s.x, group), s.weight, s.eps);
}

void cpu_model::run_step(const layer_norm_step& s, const step_batch&) {
  const std::size_t group = s.weights.scale.columns;
  device_->ops.layer_norm(device_->context, groups_at(s.y, group), groups_at(s.x, group), s.weights, s.eps);
}

void cpu_model::run_step(const add_step& s, const step_batch&) {
  device_->ops.add(device_->context, at(s.y), at(s.a), at(s.b));
}

void cpu_model::run_step(const mul_step& s, const step_batch&) {
  device_->ops.mul(device_->context, at(s.y), at(s.a), at(s.b));
}

void cpu_model::run_step(const clamp_step& s, const step_batch&) {
  device_->ops.clamp(device_->context, at(s.y), at(s.x), s.range);
}

void cpu_model::run_step(const activation_step& s, const step_batch&) {
  const const_activations factor = s.factor ? const_activations(at(*s.factor)) : const_activations{};
  device_->ops.activation(device_->context, at(s.y), at(s.x), factor, s.act);
}

void cpu_model::run_step(const rope_step& s, const step_batch&) {
  device_->ops.rope(device_->context, at(s.y), at(s.x), rope_tables_[s.table], s.shape);
}

void cpu_model::run_step(const attention_step& s, const step_batch& batch) {
  const kv_cache cache{device_->pool->data(),
                       device_->pool->block_stride(),
                       s.floats_before * block_tokens_,
                       block_tokens_,
                       s.shape.kv_heads,
                       s.shape.head_dim};
  device_->ops.attention(device_->context, at(s.y), at(s.q), at(s.k), at(s.v), cache,
                         {batch.positions, batch.sequence_rows, batch.block_tables}, s.shape);
}

void cpu_model::run_step(const router_step& s, const step_batch&) {
  device_->ops.router(device_->context, at(s.weights), indices_at(s.experts), at(s.x), s.rule);
}

void cpu_model::run_step(const experts_step& s, const step_batch&) {
  device_->ops.experts(device_->context, at(s.y), at(s.x), at(s.weights), indices_at(s.experts),
                       {s.gate, s.up, s.down, s.act});
}

void cpu_model::run_step(const select_step& s, const step_batch& batch) {
  device_->ops.select_rows(device_->context, at(s.y), at(s.x), batch.logit_rows);
}

void cpu_model::run_step(const split_step& s, const step_batch&) {
  outputs_.clear();
  for (const std::uint32_t y : s.y) outputs_.push_back(at(y));
  device_->ops.split(device_->context, outputs_, at(s.x));
}

void cpu_model::run_step(const concat_step& s, const step_batch&) {
  inputs_.clear();
  for (const std::uint32_t x : s.x) inputs_.push_back(at(x));
  device_->ops.concat(device_->context, at(s.y), inputs_);
}

result<void> cpu_model::run_step(native_step& s, const step_batch& batch) {
  native_operands_.clear();
  for (const std::uint32_t x : s.inputs) native_operands_.push_back(arena_ + offsets_[x]);
  for (const std::uint32_t y : s.outputs) native_operands_.push_back(arena_ + offsets_[y]);
  const auto operands = std::span(native_operands_);
  const bool tokens = !program_.tensors[s.outputs[0]].logit_rows;
  const native_batch seen{
      tokens ? tokens_ : logit_rows_, tokens ? batch.sequence_rows : std::span<const std::uint32_t>{},
      tokens ? std::span<const std::uint32_t>(first_positions_) : std::span<const std::uint32_t>{}, slots_};
  return run_native(device_->context, s, seen, operands.first(s.inputs.size()),
                    operands.subspan(s.inputs.size()));
}

std::span<const float> cpu_model::logit_row(std::size_t row) const {
  assert(row < logit_rows_);
  const auto logits = at(program_.logits);
  return {logits.row(row), logits.width};
}

void cpu_model::sample(std::span<const sample_request> requests, std::span<sampled_token> outputs) {
  assert(requests.size() == outputs.size());
  device_->threads.parallel_for(
      requests.size(), 2, [&](std::size_t first, std::size_t last, unsigned worker) {
        for (std::size_t i = first; i < last; ++i) {
          const auto& asked = requests[i];
          outputs[i] = samplers_[worker].sample(
              logit_row(asked.logit_row), *asked.params,
              {asked.history, asked.prompt_tokens, asked.position, asked.banned, asked.top_logprobs});
        }
      });
}

void cpu_model::score(std::span<const score_request> requests, std::span<sampled_token> outputs) {
  assert(requests.size() == outputs.size());
  device_->threads.parallel_for(
      requests.size(), 2, [&](std::size_t first, std::size_t last, unsigned worker) {
        for (std::size_t i = first; i < last; ++i) {
          outputs[i] = samplers_[worker].score(logit_row(requests[i].logit_row), requests[i].token,
                                               requests[i].top_logprobs);
        }
      });
}

void cpu_model::read_logits(std::span<float> out) {
  const auto logits = at(program_.logits);
  assert(out.size() == logits.rows * logits.width);
  if (!out.empty()) std::memcpy(out.data(), logits.data, out.size_bytes());
}

}  // namespace troupe::ops::cpu
