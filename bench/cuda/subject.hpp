// A model of published size on the device, with made-up weights, and steps of it: what bench_cuda_serving measures.
//
// Steps are given as the executor gives them: the next one is enqueued before the tokens of the one before are read. A context is not
// computed: the cache holds random numbers, the recurrent state what it holds.
#pragma once

#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "bench/cuda/trace.hpp"
#include "bench/cuda/workload.hpp"
#include "kernel/modules/modules.hpp"
#include "ops/backends/cuda/cuda_model.hpp"

namespace troupe::bench {

struct subject_options {
  std::filesystem::path config;  // a config.json
  bool int8 = false;
  std::uint32_t step_tokens = 8192;  // of prefill
  std::uint32_t sequences = 64;      // at most
  std::uint64_t seed = 1;
  std::uint64_t most_cache_bytes = 0;  // 0 = what weights, states and steps leave
};

struct timing {
  double seconds = 0;          // wall time of one step
  step_shape shape;            // of the middle one
  std::vector<double> chosen;  // experts per router, averaged over a few steps
};

class subject {
 public:
  // Errors: those of the module and the backend.
  static result<std::unique_ptr<subject>> open(const subject_options& options,
                                               const modules::registry& known);

  const program::Program& program() const { return *program_; }
  const std::string& told() const { return told_; }  // what the backend said while loading
  double load_seconds() const { return load_seconds_; }

  // Whether the cache has room.
  bool fits(std::size_t batch, std::size_t context) const;

  // Wall time of decoding `batch` sequences at a context of about `context` positions.
  result<timing> decode(std::size_t batch, std::size_t context, std::size_t steps);
  // Of one prompt, in chunks of step_tokens.
  result<timing> prefill(std::size_t tokens);

  // What the device does in `steps` steps of it; the last ones of a few more.
  result<std::vector<activity>> trace_decode(std::size_t batch, std::size_t context, std::size_t steps);
  result<std::vector<activity>> trace_prefill(std::size_t tokens);

  // Seconds between the results of steps that follow each other.
  result<std::vector<double>> step_times(std::size_t batch, std::size_t context, std::size_t steps);
  // Behind a prompt of a few tokens, always the same.
  result<std::vector<float>> logits();
  ops::model& model() { return *model_; }

 private:
  explicit subject(program::verified_program program) : program_(std::move(program)) {}
  result<double> run_decode(std::size_t batch, std::size_t context, std::size_t warm, std::size_t steps,
                            std::vector<double>* each = nullptr);
  result<double> run_prefill(std::size_t tokens);
  std::vector<double> average(const std::vector<std::vector<std::uint32_t>>& counts) const;
  void spread_blocks(std::size_t batch, std::size_t context);
  std::int32_t token();

  subject_options options_;
  program::verified_program program_;
  std::unique_ptr<ops::backend> backend_;
  std::unique_ptr<ops::model> model_;
  ops::cuda::cuda_model* on_device_ = nullptr;
  std::uint32_t blocks_ = 0;
  std::string told_;
  double load_seconds_ = 0;
  std::vector<std::vector<std::uint32_t>> tables_;  // of the sequences at hand
  std::mt19937_64 random_{1};
};

}  // namespace troupe::bench
