// One Program on the CPU: runs steps and chooses tokens. See ops/device/backend.hpp.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ops/backends/cpu/block_pool.hpp"
#include "ops/backends/cpu/compiled_program.hpp"
#include "ops/backends/cpu/op_set.hpp"
#include "ops/backends/cpu/state_slots.hpp"
#include "ops/device/backend.hpp"
#include "ops/device/execution.hpp"
#include "ops/device/step_check.hpp"
#include "ops/sampling/sampler.hpp"

namespace troupe::ops::cpu {

// What all models of a backend share.
struct device_state {
  thread_pool threads;
  execution context;
  std::shared_ptr<const block_pool> pool;
  const op_set& ops;

  device_state(unsigned thread_count, std::shared_ptr<const block_pool> blocks, const op_set& set)
      : threads(thread_count), context(threads), pool(std::move(blocks)), ops(set) {}
};

class cpu_model final : public model {
 public:
  // `source` and `weights` are what `program` points into; `files` keeps the mapped ones.
  cpu_model(std::shared_ptr<device_state> device, program::verified_program source, compiled_program program,
            std::vector<checkpoint::bound_weight> weights, std::shared_ptr<const checkpoint::weights> files,
            std::unique_ptr<state_slots> states, std::uint32_t block_tokens);

  // Sets memory aside for the activations of a step of that many tokens, all of whose logits are wanted.
  // Error: bad_config: it is more than half of the machine's memory.
  result<void> reserve(std::uint32_t tokens);

  std::uint32_t block_tokens() const override { return block_tokens_; }
  std::uint64_t weight_bytes() const override { return weight_bytes_; }
  std::uint64_t state_bytes() const override { return program::state_bytes_per_sequence(*source_); }
  result<void> run(const step_batch& batch, std::span<probe_request> probes) override;
  void sample(std::span<const sample_request> requests, std::span<sampled_token> outputs) override;
  void score(std::span<const score_request> requests, std::span<sampled_token> outputs) override;
  void read_logits(std::span<float> out) override;

 private:
  // Zeroes the state of sequences that begin.
  void enter_states(const step_batch& batch);
  result<void> find_probes(std::span<const probe_request> probes);
  void copy_probes(std::span<probe_request> probes) const;
  void fill_rope_tables(const step_batch& batch);

  void run_step(const embed_step& s, const step_batch& batch);
  void run_step(linear_step& s, const step_batch& batch);
  void run_step(const rms_norm_step& s, const step_batch& batch);
  void run_step(const layer_norm_step& s, const step_batch& batch);
  void run_step(const add_step& s, const step_batch& batch);
  void run_step(const mul_step& s, const step_batch& batch);
  void run_step(const clamp_step& s, const step_batch& batch);
  void run_step(const activation_step& s, const step_batch& batch);
  void run_step(const rope_step& s, const step_batch& batch);
  void run_step(const attention_step& s, const step_batch& batch);
  void run_step(const router_step& s, const step_batch& batch);
  void run_step(const experts_step& s, const step_batch& batch);
  void run_step(const select_step& s, const step_batch& batch);
  void run_step(const split_step& s, const step_batch& batch);
  void run_step(const concat_step& s, const step_batch& batch);
  result<void> run_step(native_step& s, const step_batch& batch);

  std::size_t rows_of_tensor(std::uint32_t tensor) const;
  activations at(std::uint32_t tensor) const;
  activations groups_at(std::uint32_t tensor, std::size_t width) const;  // each group of columns as a row
  indices indices_at(std::uint32_t tensor) const;
  std::span<const float> logit_row(std::size_t row) const;

  std::shared_ptr<device_state> device_;
  program::verified_program source_;
  compiled_program program_;
  std::vector<checkpoint::bound_weight> weights_;
  std::shared_ptr<const checkpoint::weights> files_;
  std::unique_ptr<state_slots> states_;
  std::uint32_t block_tokens_;
  step_check check_;
  std::uint64_t weight_bytes_ = 0;

  // Of the last step.
  std::size_t tokens_ = 0;
  std::size_t logit_rows_ = 0;
  scratch_buffer memory_;
  float* arena_ = nullptr;
  std::vector<std::size_t> offsets_;         // of tensors in the arena
  std::vector<std::uint32_t> probed_;        // tensor of each probe asked for
  std::vector<scratch_buffer> rope_memory_;  // per table: cosines, then sines
  std::vector<rope_table> rope_tables_;
  std::vector<std::uint32_t> first_positions_;  // [S]
  std::vector<float*> slots_;                   // [S] each sequence's state
  std::vector<void*> native_operands_;          // of the op at hand: inputs, then outputs
  std::vector<activations> outputs_;            // of a split, while it runs
  std::vector<const_activations> inputs_;       // of a concat, while it runs
  std::vector<sampler> samplers_;               // one per thread
};

}  // namespace troupe::ops::cpu
