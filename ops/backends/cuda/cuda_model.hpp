// One Program on a CUDA device: runs steps and chooses tokens. See ops/device/backend.hpp.
//
// A step is: one copy of its inputs to the device, its launches, the choice of tokens, one copy of the choices to the host; nothing of it
// waits for the device. Steps in which every sequence has one row are filled up to one of a few sizes and replayed as a captured graph
// from the second time on.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "ops/backends/cuda/cuda_program.hpp"
#include "ops/backends/cuda/device.hpp"
#include "ops/backends/cuda/host_copy.hpp"
#include "ops/backends/cuda/step_image.hpp"
#include "ops/backends/cuda/step_memory.hpp"
#include "ops/device/backend.hpp"
#include "ops/device/step_check.hpp"
#include "ops/sampling/sampler_cuda.hpp"

namespace troupe::ops::cuda {

class cuda_model final : public model {
 public:
  static result<std::unique_ptr<model>> make(std::shared_ptr<device> on, program::verified_program source,
                                             cuda_program program, weight_store weights,
                                             std::unique_ptr<kv_places> kv, const load_options& options);
  ~cuda_model() override;

  // Device memory that steps of the size which the options promise take.
  static std::uint64_t step_bytes(const cuda_program& program, const load_options& options,
                                  std::uint32_t pool_blocks);

  std::uint32_t block_tokens() const override { return kv_->block_tokens; }
  std::uint64_t weight_bytes() const override { return weights_.bytes(); }
  std::uint64_t state_bytes() const override { return program::state_bytes_per_sequence(*source_); }
  result<void> run(const step_batch& batch, std::span<probe_request> probes) override;
  void sample(std::span<const sample_request> requests, std::span<sampled_token> outputs) override;
  void score(std::span<const score_request> requests, std::span<sampled_token> outputs) override;
  void read_logits(std::span<float> out) override;
  bool overlaps() const override { return true; }
  bool ready() override;
  result<void> enqueue(const step_batch& batch, std::span<const sample_request> samples,
                       std::span<const score_request> scores) override;
  result<void> collect(std::span<sampled_token> samples, std::span<sampled_token> scores) override;
  result<rest_report> sleep() override;
  result<rest_report> wake() override;

  // For measurements. Runs a step and tells, for each router of the Program, how many experts its rows chose.
  result<std::vector<std::uint32_t>> count_experts(const step_batch& batch);
  // Lets a sequence go on at `position`, on whatever its state and its blocks hold.
  void assume(std::uint32_t state_slot, std::uint32_t position);
  // Graphs are captured anew.
  void drop_graphs();
  // Captured so far.
  std::size_t graphs() const;
  device& on() const { return *device_; }

 private:
  // A step on its way. Its pinned buffers are free again when `done` has passed.
  struct slot {
    pinned_memory inputs, lists, outputs;
    cudaEvent_t done = nullptr;
    std::size_t samples = 0, scores = 0, top = 0;
  };
  static constexpr std::size_t slots = 3;

  cuda_model(std::shared_ptr<device> on, program::verified_program source, cuda_program program,
             weight_store weights, std::unique_ptr<kv_places> kv, const load_options& options);
  result<void> prepare(const load_options& options);
  // Makes room; captured graphs are dropped then. Rare: steps are as large as was promised when the model was loaded.
  result<void> grow(const step_capacity& wanted);
  result<void> reserve_choices(std::size_t requests);

  result<void> launch_step(const step_batch& batch, std::span<probe_request> probes);
  std::size_t bucket_for(const step_batch& batch) const;
  void write_inputs(const step_batch& batch, std::size_t rows, std::size_t sequences, std::size_t wanted);
  void write_attention(const step_batch& batch);
  result<void> enter_states(const step_batch& batch);
  step_frame frame(std::size_t tokens, std::size_t sequences, std::size_t logit_rows, memory_plan& plan);
  result<void> launch_ops(const step_frame& f);
  result<void> launch_bucket(std::size_t bucket);
  step_capacity needs(std::size_t rows, std::size_t sequences, std::size_t wanted, std::size_t bucket,
                      memory_plan& plan);
  result<void> send_inputs(const step_batch& batch, const step_capacity& needed, std::size_t wanted);
  result<void> find_probes(std::span<const probe_request> probes);
  result<void> read_probes(const step_frame& f, std::span<probe_request> probes);
  result<void> launch_choices(std::span<const sample_request> samples, std::span<const score_request> scores);
  device_request describe(const sample_request& r);
  result<void> finish(std::span<sampled_token> samples, std::span<sampled_token> scores, slot& from);
  result<void> keep_failure(result<void> done);
  result<void> check_awake() const;
  void give_back();

  std::shared_ptr<device> device_;
  program::verified_program source_;
  cuda_program program_;
  weight_store weights_;
  std::unique_ptr<kv_places> kv_;
  step_check check_;
  std::uint32_t state_slots_ = 0;

  reserved_range states_;  // [slots][stride] floats
  std::size_t state_stride_ = 0;
  device_memory state_tables_;  // [states] pointers, starts, then [states][S] pointers
  device_memory frequencies_;   // of all rope tables
  std::vector<std::size_t> frequency_starts_;

  step_capacity held_;
  reserved_range buffers_;   // inputs, angles, arena, workspace
  step_memory at_;           // in buffers_
  device_memory lists_;      // of the choices: requests, biases, histories, bans
  device_memory scratch_;    // rows of logits that rules change
  device_memory choices_;    // and alternatives
  device_memory tokens_[2];  // chosen in this step and in the one before
  std::size_t parity_ = 0;
  std::vector<std::size_t> offsets_;  // of the Program's tensors
  struct captured {
    int uses = 0;
    cudaGraphExec_t graph = nullptr;
    step_capacity needed;
    const float* logits = nullptr;
  };
  std::map<std::size_t, captured> graphs_;

  // The step at hand.
  step_inputs in_;  // in at_.inputs
  step_image image_;
  std::vector<std::vector<decode_part>> parts_;  // per window
  std::vector<query_tile> tiles_;
  std::vector<std::uint32_t> tables_, table_starts_;
  std::vector<std::uint32_t> probed_;
  const float* logits_ = nullptr;
  std::size_t logit_rows_ = 0;
  std::uint32_t* marks_ = nullptr;  // while experts are counted
  std::vector<device_request> requests_;
  std::vector<bias_entry> biases_;
  std::vector<history_entry> histories_;
  std::vector<std::int32_t> bans_;
  std::size_t scratch_rows_ = 0;

  std::array<slot, slots> ring_;
  std::size_t next_slot_ = 0, oldest_ = 0, in_flight_ = 0;
  std::string failure_;              // of the device: all further steps fail with it
  std::unique_ptr<host_copy> copy_;  // of the weights, while it sleeps
};

}  // namespace troupe::ops::cuda
