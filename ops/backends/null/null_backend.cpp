#include "ops/backends/null/null_backend.hpp"

#include <algorithm>

namespace troupe::ops {
namespace {

class null_model final : public model {
 public:
  null_model(std::uint32_t block_tokens, std::uint32_t vocabulary)
      : block_tokens_(block_tokens), vocabulary_(static_cast<std::int32_t>(vocabulary)) {}

  std::uint32_t block_tokens() const override { return block_tokens_; }
  std::uint64_t weight_bytes() const override { return 0; }
  std::uint64_t state_bytes() const override { return 0; }

  result<void> run(const step_batch&, std::span<probe_request> probes) override {
    if (!probes.empty()) return fail(error_code::unsupported, "the null backend computes nothing to probe");
    return {};
  }

  void sample(std::span<const sample_request> requests, std::span<sampled_token> outputs) override {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      outputs[i] = {};
      outputs[i].token = next(requests[i]);
      fill_top(outputs[i], std::max(requests[i].top_logprobs, 0));
    }
  }

  void score(std::span<const score_request> requests, std::span<sampled_token> outputs) override {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      outputs[i] = {};
      outputs[i].token = requests[i].token;
      fill_top(outputs[i], static_cast<std::int32_t>(requests[i].top_logprobs));
    }
  }

  void read_logits(std::span<float> out) override { std::fill(out.begin(), out.end(), 0.0f); }

 private:
  std::int32_t next(const sample_request& request) const {
    std::int32_t token = request.history.empty() ? 0 : (request.history.back() + 1) % vocabulary_;
    for (std::int32_t tried = 0; tried < vocabulary_; ++tried) {
      if (std::find(request.banned.begin(), request.banned.end(), token) == request.banned.end())
        return token;
      token = (token + 1) % vocabulary_;
    }
    return token;
  }

  void fill_top(sampled_token& output, std::int32_t count) const {
    for (std::int32_t i = 0; i < std::min(count, vocabulary_); ++i) output.top.push_back({i, 0});
  }

  std::uint32_t block_tokens_;
  std::int32_t vocabulary_;
};

class null_backend final : public backend {
 public:
  explicit null_backend(const null_options& options) : options_(options) {}

  device_info info() const override { return {"null", "computes nothing"}; }

  result<std::unique_ptr<model>> load(const program::verified_program& program,
                                      std::shared_ptr<const checkpoint::weights>,
                                      const load_options&) override {
    return std::make_unique<null_model>(options_.block_tokens, program->facts()->vocabulary());
  }

 private:
  null_options options_;
};

}  // namespace

std::unique_ptr<backend> open_null_backend(const null_options& options) {
  return std::make_unique<null_backend>(options);
}

}  // namespace troupe::ops
