#include "ops/backends/cuda/cuda_backend.hpp"

#include <algorithm>
#include <chrono>

#include "kernel/base/text.hpp"
#include "ops/backends/cuda/cuda_model.hpp"
#include "ops/backends/cuda/cuda_program.hpp"
#include "ops/backends/cuda/device.hpp"
#include "ops/backends/cuda/side_stream.hpp"
#include "ops/device/room.hpp"

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
      auto one = checkpoint::bind(*weight, *files, checkpoint::made_up::left_out);
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
    if (auto fits = check_place(*program, bound, store->bytes(), *compiled, options); !fits)
      return fail(std::move(fits.error()));
    const auto start = std::chrono::steady_clock::now();
    // Not that of the steps: other models launch theirs meanwhile, and capture graphs of them.
    auto stream = side_stream::open();
    if (!stream) return fail(std::move(stream.error()));
    if (auto loaded = store->load(stream->get(), options.progress); !loaded)
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
  result<void> check_place(const program::Program& program,
                           const std::vector<checkpoint::bound_weight>& bound, std::uint64_t weights,
                           const cuda_program& compiled, const load_options& options) const {
    const auto free = free_bytes();
    if (!free) return fail(free.error());
    constexpr std::uint64_t node = 4096;
    room_plan plan;
    plan.device = *free + device_->pool.bytes();
    plan.weights = weights;
    plan.cache = device_->pool.bytes();
    plan.states = std::uint64_t{options.state_slots} * compiled.state_floats * sizeof(float);
    plan.activations = cuda_model::step_bytes(compiled, options, device_->blocks);
    plan.graphs = 2 * node * compiled.ops.size() * buckets_up_to(options.state_slots);
    plan.reserve = driver_reserve;
    if (options.tell) options.tell("memory: " + plan_text(plan));
    room_choices less;
    less.token_bytes = compiled.kv_numbers * sizeof(__nv_bfloat16);
    less.sequences = options.state_slots;
    load_options fewer = options;
    fewer.state_slots = 1;
    if (options.state_slots > 1)
      less.sequence_bytes = (plan.states + plan.activations - compiled.state_floats * sizeof(float) -
                             cuda_model::step_bytes(compiled, fewer, device_->blocks)) /
                            (options.state_slots - 1);
    if (!options.int8) less.int8_weights = weights - saved_by_int8(program, bound);
    if (less.int8_weights == weights) less.int8_weights = 0;
    return ops::check_room(program.facts()->architecture()->string_view(), plan, less);
  }

  static std::uint64_t saved_by_int8(const program::Program& program,
                                     const std::vector<checkpoint::bound_weight>& bound) {
    std::uint64_t saved = 0;
    for (std::size_t i = 0; i < bound.size(); ++i)
      if (program.weights()->Get(static_cast<unsigned>(i))->quantizable())
        saved += bound[i].planes.size() * bound[i].rows * (bound[i].columns - sizeof(float));
    return saved;
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
