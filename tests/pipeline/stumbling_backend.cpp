// libtroupe-stumbling.so: another backend whose device fails in the middle of an answer, once for each time that the library is loaded. Which one, the environment says
// (TROUPE_STUMBLING_ON: a library); which step, too (TROUPE_STUMBLING_STEP).
#include <atomic>
#include <boost/dll/alias.hpp>
#include <cstdlib>
#include <memory>

#include "ops/device/open_backend.hpp"

namespace troupe::test {

namespace {

std::atomic<int> steps_left{-1};

class stumbling_model final : public ops::model {
 public:
  explicit stumbling_model(std::unique_ptr<ops::model> real) : real_(std::move(real)) {}
  std::uint32_t block_tokens() const override { return real_->block_tokens(); }
  std::uint64_t weight_bytes() const override { return real_->weight_bytes(); }
  std::uint64_t state_bytes() const override { return real_->state_bytes(); }
  result<void> run(const ops::step_batch& batch, std::span<ops::probe_request> probes) override {
    return real_->run(batch, probes);
  }
  void sample(std::span<const ops::sample_request> requests, std::span<ops::sampled_token> outputs) override {
    real_->sample(requests, outputs);
  }
  void score(std::span<const ops::score_request> requests, std::span<ops::sampled_token> outputs) override {
    real_->score(requests, outputs);
  }
  void read_logits(std::span<float> out) override { real_->read_logits(out); }
  bool overlaps() const override { return real_->overlaps(); }
  bool ready() override { return real_->ready(); }
  result<void> enqueue(const ops::step_batch& batch, std::span<const ops::sample_request> samples,
                       std::span<const ops::score_request> scores) override {
    return real_->enqueue(batch, samples, scores);
  }
  result<void> collect(std::span<ops::sampled_token> samples, std::span<ops::sampled_token> scores) override {
    auto done = real_->collect(samples, scores);
    if (steps_left-- == 0) return fail(error_code::internal, "a step: the device failed (injected)");
    return done;
  }

 private:
  std::unique_ptr<ops::model> real_;
};

class stumbling_backend final : public ops::backend {
 public:
  explicit stumbling_backend(std::unique_ptr<ops::backend> real) : real_(std::move(real)) {}
  ops::device_info info() const override { return real_->info(); }
  result<std::unique_ptr<ops::model>> load(const program::verified_program& program,
                                           std::shared_ptr<const checkpoint::weights> files,
                                           const ops::load_options& options) override {
    auto real = real_->load(program, std::move(files), options);
    if (!real) return real;
    return std::make_unique<stumbling_model>(std::move(*real));
  }

 private:
  std::unique_ptr<ops::backend> real_;
};

}  // namespace

result<std::unique_ptr<ops::backend>> open(const ops::backend_options& options) {
  const char* library = std::getenv("TROUPE_STUMBLING_ON");
  const char* step = std::getenv("TROUPE_STUMBLING_STEP");
  if (library == nullptr || step == nullptr)
    return fail(error_code::bad_config, "TROUPE_STUMBLING_ON and TROUPE_STUMBLING_STEP are not set");
  static const bool armed = [&] {
    steps_left = std::atoi(step);
    return true;
  }();
  (void)armed;
  auto real = ops::open_backend(library, options);
  if (!real) return real;
  return std::make_unique<stumbling_backend>(std::move(*real));
}

}  // namespace troupe::test

BOOST_DLL_ALIAS(troupe::test::open, troupe_open_backend)
