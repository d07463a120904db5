// One Program on a CUDA device: runs steps and chooses tokens. See ops/device/backend.hpp.
//
// A step is: one copy of its inputs to the device, its launches, the choice of tokens, one copy of the choices to the host; nothing of it
// waits for the device. Steps in which every sequence has one row are filled up to one of a few sizes and replayed as a captured graph
// from the second time on.
#pragma once

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "ops/backends/cuda/cuda_program.hpp"
#include "ops/backends/cuda/device.hpp"
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
  static std::uint64_t step_bytes(const cuda_program& program, const load_options& options);

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

 private:
  // How much the device's buffers hold; they grow, and captured graphs are dropped then.
  struct capacity {
    std::size_t rows = 0, sequences = 0, parts = 0, blocks = 0;
    std::size_t arena = 0, workspace = 0;  // bytes
    bool holds(const capacity& wanted) const;
    void include(const capacity& wanted);
  };
  // What is sent to the device for a step: pieces of one pinned buffer.
  struct piece {
    void* to;
    std::size_t offset, bytes;
  };
  // A step on its way. Its pinned buffers are free again when `done` has passed.
  struct slot {
    pinned_memory inputs, lists, outputs;
    cudaEvent_t done = nullptr;
    std::size_t samples = 0, scores = 0, top = 0;
  };
  static constexpr std::size_t slots = 3;

  cuda_model(std::shared_ptr<device> on, program::verified_program source, cuda_program program,
             weight_store weights, std::unique_ptr<kv_places> kv, const load_options& options);
  static capacity promised(const cuda_program& program, const load_options& options);
  static std::size_t buffer_bytes(const cuda_program& program, const capacity& c);
  result<void> prepare(const load_options& options);
  result<void> grow(const capacity& wanted);

  result<void> launch_step(const step_batch& batch, std::span<probe_request> probes);
  std::size_t bucket_for(const step_batch& batch) const;
  void write_inputs(const step_batch& batch, std::size_t rows, std::size_t sequences, std::size_t wanted);
  void write_attention(const step_batch& batch);
  result<void> send(pinned_memory& through);
  result<void> enter_states(const step_batch& batch);
  step_frame frame(std::size_t tokens, std::size_t sequences, std::size_t logit_rows, memory_plan& plan);
  result<void> launch_ops(const step_frame& f);
  result<void> launch_bucket(std::size_t bucket);
  result<void> find_probes(std::span<const probe_request> probes);
  result<void> read_probes(const step_frame& f, std::span<probe_request> probes);
  result<void> launch_choices(std::span<const sample_request> samples, std::span<const score_request> scores);
  device_request describe(const sample_request& r);
  result<void> finish(std::span<sampled_token> samples, std::span<sampled_token> scores, slot& from);
  result<void> keep_failure(result<void> done);
  void drop_graphs();
  // Adds to the image; `to`: where it goes on the device, null = told later. Answers where it stands in the image.
  template <class T>
  std::size_t append(std::span<const T> values, void* to) {
    const std::size_t offset = image_.size(), bytes = values.size_bytes();
    image_.resize(offset + (bytes + 255) / 256 * 256);
    if (bytes > 0) std::memcpy(image_.data() + offset, values.data(), bytes);
    if (to != nullptr && bytes > 0) pieces_.push_back({to, offset, bytes});
    return offset;
  }

  std::shared_ptr<device> device_;
  program::verified_program source_;
  cuda_program program_;
  weight_store weights_;
  std::unique_ptr<kv_places> kv_;
  step_check check_;
  std::uint32_t state_slots_ = 0;

  device_memory states_;  // [slots][stride] floats
  std::size_t state_stride_ = 0;
  device_memory state_tables_;  // [states] pointers, starts, then [states][S] pointers
  device_memory frequencies_;   // of all rope tables
  std::vector<std::size_t> frequency_starts_;

  capacity held_;
  device_memory buffers_;  // inputs, arena, workspace, angles
  struct places;           // in buffers_
  std::unique_ptr<places> at_;
  device_memory lists_;      // of the choices: requests, biases, histories, bans
  device_memory scratch_;    // rows of logits that rules change
  device_memory choices_;    // and alternatives
  device_memory tokens_[2];  // chosen in this step and in the one before
  std::size_t parity_ = 0;
  std::vector<std::size_t> offsets_;  // of the Program's tensors
  struct captured {
    int uses = 0;
    cudaGraphExec_t graph = nullptr;
  };
  std::map<std::size_t, captured> graphs_;

  // The step at hand.
  std::vector<char> image_;
  std::vector<piece> pieces_;
  std::vector<std::vector<decode_part>> parts_;  // per window
  std::vector<query_tile> tiles_;
  std::vector<std::uint32_t> tables_, table_starts_;
  std::vector<std::uint32_t> probed_;
  const float* logits_ = nullptr;
  std::size_t logit_rows_ = 0;
  std::vector<device_request> requests_;
  std::vector<bias_entry> biases_;
  std::vector<history_entry> histories_;
  std::vector<std::int32_t> bans_;
  std::size_t scratch_rows_ = 0;

  std::array<slot, slots> ring_;
  std::size_t next_slot_ = 0, oldest_ = 0, in_flight_ = 0;
  std::string failure_;  // of the device: all further steps fail with it
};

}  // namespace troupe::ops::cuda
