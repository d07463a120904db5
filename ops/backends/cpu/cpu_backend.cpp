#include "ops/backends/cpu/cpu_backend.hpp"

#include <system_error>

#include "ops/backends/cpu/cpu_model.hpp"
#include "ops/device/simd_name.hpp"

namespace troupe::ops::cpu {
namespace {

// A model without a paged cache needs no blocks; a number this large makes one enough for any sequence.
constexpr std::uint32_t unlimited_block_tokens = 1u << 30;

std::uint64_t bytes_of(const checkpoint::bound_weight& weight) {
  return weight.planes.size() * weight.rows * weight.columns * program::size_of(weight.dtype);
}

class cpu_backend final : public backend {
 public:
  cpu_backend(std::shared_ptr<device_state> device, bool reference)
      : device_(std::move(device)), reference_(reference) {}

  device_info info() const override {
    const unsigned threads = device_->threads.size();
    return {"cpu", fmt::format("{} {}, {}", threads, threads == 1 ? "thread" : "threads",
                               reference_ ? "reference ops" : simd_name())};
  }

  result<std::unique_ptr<model>> load(const program::verified_program& program,
                                      std::shared_ptr<const checkpoint::weights> files,
                                      const load_options& options) override {
    if (options.int8) {
      return fail(error_code::unsupported,
                  "weights as int8: the cpu backend computes with what the checkpoint stores; leave it out "
                  "(device.weights "
                  "= \"bf16\")");
    }
    std::vector<checkpoint::bound_weight> weights;
    std::uint64_t done = 0;
    for (const auto* weight : *program->weights()) {
      auto bound = checkpoint::bind(*weight, *files);
      if (!bound) return fail(std::move(bound.error()));
      done += bytes_of(*bound);
      weights.push_back(std::move(*bound));
      if (options.progress) options.progress(std::min(done, files->total_bytes()), files->total_bytes());
    }
    auto compiled = compile(*program, weights, options.native_ops);
    if (!compiled) return fail(std::move(compiled.error()));
    auto states = state_slots::open(options.state_slots, compiled->state_floats);
    if (!states) return fail(std::move(states.error()));
    auto block_tokens = tokens_per_block(compiled->kv_floats * sizeof(float));
    if (!block_tokens) return fail(std::move(block_tokens.error()));
    auto made = std::make_unique<cpu_model>(device_, program, std::move(*compiled), std::move(weights),
                                            std::move(files), std::move(*states), *block_tokens);
    if (auto ok = made->reserve(options.step_tokens); !ok) return fail(std::move(ok.error()));
    return made;
  }

 private:
  result<std::uint32_t> tokens_per_block(std::uint64_t token_bytes) const {
    if (token_bytes == 0) return unlimited_block_tokens;
    const std::uint64_t tokens = device_->pool->block_bytes() / token_bytes;
    if (tokens == 0) {
      return fail(error_code::bad_config,
                  "cache.block must be at least {0} bytes, better 16 times as much: one token of this model "
                  "takes {0} "
                  "bytes of keys and values, found blocks of {1} bytes",
                  token_bytes, device_->pool->block_bytes());
    }
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(tokens, unlimited_block_tokens));
  }

  std::shared_ptr<device_state> device_;
  bool reference_;
};

}  // namespace

result<std::unique_ptr<backend>> open(const backend_options& options) {
  auto pool = block_pool::open(options.blocks, options.block_bytes);
  if (!pool) return fail(std::move(pool.error()));
  try {
    auto device = std::make_shared<device_state>(options.threads, std::move(*pool),
                                                 options.reference_ops ? reference_ops : fast_ops);
    return std::make_unique<cpu_backend>(std::move(device), options.reference_ops);
  } catch (const std::system_error& problem) {
    return fail(error_code::bad_config, "device.threads: the system does not give that many threads: {}",
                problem.what());
  }
}

}  // namespace troupe::ops::cpu
