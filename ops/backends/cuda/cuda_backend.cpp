#include "ops/backends/cuda/cuda_backend.hpp"

#include <algorithm>
#include <chrono>

#include "kernel/base/text.hpp"
#include "ops/backends/cuda/cuda_model.hpp"
#include "ops/backends/cuda/cuda_program.hpp"
#include "ops/backends/cuda/device.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {
namespace {

constexpr std::uint32_t unlimited_block_tokens = 1u << 30;  // a model without a paged cache needs no blocks

class cuda_backend final : public backend {
 public:
  explicit cuda_backend(std::shared_ptr<device> on) : device_(std::move(on)) {}

  device_info info() const override { return {"cuda", device_->name}; }

  result<std::unique_ptr<model>> load(const program::verified_program& program,
                                      std::shared_ptr<const checkpoint::weights> files,
                                      const load_options& options) override {
    std::vector<checkpoint::bound_weight> bound;
    for (const auto* weight : *program->weights()) {
      auto one = checkpoint::bind(*weight, *files);
      if (!one) return fail(std::move(one.error()));
      bound.push_back(std::move(*one));
    }
    auto store = weight_store::open(*program, bound, options.int8);
    if (!store) return fail(std::move(store.error()));
    auto kv = std::make_unique<kv_places>();
    auto compiled = compile(*program, bound, *store, options.native_ops, *kv);
    if (!compiled) return fail(std::move(compiled.error()));
    auto block_tokens = tokens_per_block(compiled->kv_numbers * sizeof(__nv_bfloat16));
    if (!block_tokens) return fail(std::move(block_tokens.error()));
    kv->pool = reinterpret_cast<__nv_bfloat16*>(device_->pool.data());
    kv->block_stride = device_->block_bytes / sizeof(__nv_bfloat16);
    kv->block_tokens = *block_tokens;
    if (auto fits = check_room(program->facts()->architecture()->str(), store->bytes(), *compiled, options);
        !fits)
      return fail(std::move(fits.error()));
    const auto start = std::chrono::steady_clock::now();
    if (auto loaded = store->load(device_->stream, options.progress); !loaded)
      return fail(std::move(loaded.error()));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (options.tell)
      options.tell(fmt::format("{} of weights on the device in {:.2f} s: {:.1f} GB/s",
                               human_bytes(store->bytes()), seconds,
                               static_cast<double>(store->bytes()) / seconds / 1e9));
    return cuda_model::make(device_, program, std::move(*compiled), std::move(*store), std::move(kv),
                            options);
  }

 private:
  result<std::uint32_t> tokens_per_block(std::uint64_t token_bytes) const {
    if (token_bytes == 0) return unlimited_block_tokens;
    const std::uint64_t tokens = device_->block_bytes / token_bytes;
    if (tokens == 0)
      return fail(error_code::bad_config,
                  "cache.block must be at least {0} bytes, better 16 times as much: one token of this model "
                  "takes {0} bytes of keys "
                  "and values, found blocks of {1} bytes",
                  token_bytes, device_->block_bytes);
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(tokens, unlimited_block_tokens));
  }

  // The memory plan, told; and the refusal of a model that does not fit, before anything is read.
  result<void> check_room(const std::string& name, std::uint64_t weights, const cuda_program& compiled,
                          const load_options& options) const {
    auto free = free_bytes();
    if (!free) return fail(std::move(free.error()));
    const std::uint64_t states = std::uint64_t{options.state_slots} * compiled.state_floats * sizeof(float);
    const std::uint64_t steps = cuda_model::step_bytes(compiled, options);
    constexpr std::uint64_t reserve = std::uint64_t{256} << 20;  // graphs, and what the driver takes
    const std::uint64_t wanted = weights + states + steps + reserve;
    const auto plan = fmt::format(
        "weights {}, cache {} ({} blocks), states {}, steps {}, reserve {}; {} free before loading",
        human_bytes(weights), human_bytes(device_->pool.bytes()), device_->blocks, human_bytes(states),
        human_bytes(steps), human_bytes(reserve), human_bytes(*free));
    if (options.tell) options.tell("memory: " + plan);
    if (wanted <= *free) return {};
    const std::uint64_t over = wanted - *free;
    std::string advice;
    if (over < device_->pool.bytes())
      advice += fmt::format("; cache.memory of at most {} leaves room for it",
                            human_bytes(device_->pool.bytes() - over));
    if (!options.int8 && weights / 2 + states + steps + reserve <= *free)
      advice += "; its weights as int8 would fit";
    if (states > 0 && over < states) advice += "; fewer scheduler.max_sequences need less for states";
    return fail(error_code::bad_config, "{}: does not fit on the device: {} more wanted ({}){}", name,
                human_bytes(over), plan, advice.empty() ? "; a device with more memory is needed" : advice);
  }

  std::shared_ptr<device> device_;
};

}  // namespace

result<std::unique_ptr<backend>> open(const backend_options& options) {
  if (options.reference_ops)
    return fail(error_code::bad_config,
                "reference operations: the cpu backend has them, the cuda backend does not");
  auto opened = device::open(options.blocks, options.block_bytes);
  if (!opened) return fail(std::move(opened.error()));
  return std::make_unique<cuda_backend>(std::move(*opened));
}

}  // namespace troupe::ops::cuda
