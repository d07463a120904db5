// The null backend, busy for a while in each step, and timed.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "bench/actors/settings.hpp"
#include "ops/backends/null/null_backend.hpp"

namespace troupe::bench {

// `took`: gets the time of run() and sample() together for each step in which `sequences` decode; null = not asked for.
class busy_model final : public ops::model {
 public:
  busy_model(std::unique_ptr<ops::model> inner, const settings& s, std::vector<double>* took)
      : inner_(std::move(inner)), us_(s.compute_us), sequences_(s.sequences), took_(took) {}
  std::uint32_t block_tokens() const override { return inner_->block_tokens(); }
  std::uint64_t weight_bytes() const override { return inner_->weight_bytes(); }
  std::uint64_t state_bytes() const override { return inner_->state_bytes(); }
  result<void> run(const ops::step_batch& batch, std::span<ops::probe_request> probes) override {
    counts_ = batch.tokens.size() == sequences_ && batch.block_tables.size() == sequences_;
    begin_ = now_us();
    while (us_ > 0 && now_us() < begin_ + us_) {
    }
    return inner_->run(batch, probes);
  }
  void sample(std::span<const ops::sample_request> r, std::span<ops::sampled_token> o) override {
    inner_->sample(r, o);
    if (counts_ && took_ != nullptr) took_->push_back(now_us() - begin_);
  }
  void score(std::span<const ops::score_request> r, std::span<ops::sampled_token> o) override {
    inner_->score(r, o);
  }
  void read_logits(std::span<float> out) override { inner_->read_logits(out); }

 private:
  std::unique_ptr<ops::model> inner_;
  double us_;
  std::size_t sequences_;
  std::vector<double>* took_;
  double begin_ = 0;
  bool counts_ = false;
};

class busy_backend final : public ops::backend {
 public:
  explicit busy_backend(const settings& s, std::vector<double>* took = nullptr)
      : inner_(ops::open_null_backend({.block_tokens = s.block_tokens})), settings_(s), took_(took) {}
  ops::device_info info() const override { return inner_->info(); }
  result<std::unique_ptr<ops::model>> load(const program::verified_program& program,
                                           std::shared_ptr<const checkpoint::weights> files,
                                           const ops::load_options& options) override {
    auto loaded = inner_->load(program, std::move(files), options);
    if (!loaded) return loaded;
    return std::make_unique<busy_model>(std::move(*loaded), settings_, took_);
  }

 private:
  std::unique_ptr<ops::backend> inner_;
  settings settings_;
  std::vector<double>* took_;
};

}  // namespace troupe::bench
