#include "bench/cuda/subject.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "bench/ops/bench_kernels.hpp"
#include "kernel/base/text.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/native_ops.hpp"
#include "ops/backends/cuda/cuda_backend.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::bench {
namespace {

using clock = std::chrono::steady_clock;

double since(clock::time_point start) {
  return std::chrono::duration<double>(clock::now() - start).count();
}

constexpr std::uint64_t slack = std::uint64_t{3} << 29;  // reserve, graphs, buffers for loading

// One step's worth of what step_batch borrows.
struct step_lists {
  std::vector<std::int32_t> tokens, positions, sources;
  std::vector<std::uint32_t> rows{0}, wanted, slots;
  std::vector<std::span<const std::uint32_t>> tables;

  ops::step_batch batch(bool states) const {
    return {tokens, positions, rows, tables, wanted, states ? slots : std::span<const std::uint32_t>(),
            sources};
  }
};

std::vector<ops::sample_request> greedy(std::size_t count) {
  static const ops::sampling_params params = [] {
    ops::sampling_params p;
    p.temperature = 0;
    return p;
  }();
  std::vector<ops::sample_request> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    out[i].logit_row = static_cast<std::uint32_t>(i);
    out[i].params = &params;
  }
  return out;
}

}  // namespace

result<std::unique_ptr<subject>> subject::open(const subject_options& options,
                                               const modules::registry& known) {
  auto config = checkpoint::read_config(options.config);
  if (!config) return fail(config.error());
  auto module = known.find(config->architecture);
  if (!module) return fail(module.error());
  auto program = (*module)->build(config->config_json);
  if (!program) return fail(program.error());
  std::unique_ptr<subject> made(new subject(*program));
  made->options_ = options;
  ops::load_options how;
  if (program::has_native_ops(**program)) {
    auto native = (*module)->native_ops();
    if (!native) return fail(native.error());
    how.native_ops = std::move(*native);
  }
  how.state_slots = options.sequences;
  how.step_tokens = options.step_tokens;
  how.int8 = options.int8;
  how.tell = [&told = made->told_](std::string_view line) { told += std::string(line) + "\n"; };

  // The cache gets what weights, states and steps leave.
  const auto free = ops::cuda::free_bytes();
  if (!free) return fail(free.error());
  const double states = static_cast<double>(program::state_bytes_per_sequence(**program)) * options.sequences;
  const double taken = weight_bytes(**program, options.int8) + states + static_cast<double>(slack) +
                       static_cast<double>(options.step_tokens) * 0.45e6;
  const std::uint64_t token_bytes = program::kv_bytes_per_token(**program, 2);
  ops::backend_options backend;
  backend.block_bytes = std::max<std::uint64_t>(16 * token_bytes, 1 << 16);
  double left = static_cast<double>(*free) - taken;
  if (left < static_cast<double>(backend.block_bytes))
    return fail(error_code::bad_config, "{}: {} free, {} taken without any cache", options.config.string(),
                human_bytes(*free), human_bytes(static_cast<std::uint64_t>(taken)));
  if (options.most_cache_bytes > 0) left = std::min(left, static_cast<double>(options.most_cache_bytes));
  backend.blocks = made->blocks_ =
      static_cast<std::uint32_t>(left / static_cast<double>(backend.block_bytes));
  auto opened = ops::cuda::open(backend);
  if (!opened) return fail(opened.error());
  made->backend_ = std::move(*opened);
  const auto start = clock::now();
  auto model = made->backend_->load(*program, checkpoint::weights::synthetic(options.seed), how);
  if (!model) return fail(model.error());
  made->load_seconds_ = since(start);
  made->model_ = std::move(*model);
  made->on_device_ = static_cast<ops::cuda::cuda_model*>(made->model_.get());
  const auto& pool = made->on_device_->on().pool;
  fill_bf16(reinterpret_cast<std::uint32_t*>(pool.data()), pool.bytes() / 4, 5);
  if (auto filled = ops::cuda::ok(cudaDeviceSynchronize(), "filling the cache"); !filled)
    return fail(filled.error());
  return made;
}

bool subject::fits(std::size_t batch, std::size_t context) const {
  const std::size_t per_block = model_->block_tokens();
  return context <= program_->facts()->context_tokens() &&
         batch * ((context + per_block - 1) / per_block) <= blocks_;
}

std::int32_t subject::token() {
  return static_cast<std::int32_t>(random_() % program_->facts()->vocabulary());
}

// Blocks of a sequence stand anywhere in the pool.
void subject::spread_blocks(std::size_t batch, std::size_t context) {
  const std::size_t per_block = model_->block_tokens(), each = (context + per_block - 1) / per_block;
  std::vector<std::uint32_t> all(blocks_);
  std::iota(all.begin(), all.end(), 0u);
  std::shuffle(all.begin(), all.end(), random_);
  tables_.assign(batch, {});
  for (std::size_t s = 0; s < batch; ++s)
    tables_[s].assign(all.begin() + static_cast<std::ptrdiff_t>(s * each),
                      all.begin() + static_cast<std::ptrdiff_t>((s + 1) * each));
}

result<double> subject::run_decode(std::size_t batch, std::size_t context, std::size_t warm,
                                   std::size_t steps, std::vector<double>* each) {
  const std::size_t all = warm + steps;
  const bool states = model_->state_bytes() != 0;
  const auto requests = greedy(batch);
  std::vector<ops::sampled_token> chosen(batch);
  step_lists lists;
  for (std::size_t s = 0; s < batch; ++s) {
    lists.tokens.push_back(token());
    lists.positions.push_back(static_cast<std::int32_t>(context - all));
    lists.rows.push_back(static_cast<std::uint32_t>(s + 1));
    lists.wanted.push_back(static_cast<std::uint32_t>(s));
    lists.slots.push_back(static_cast<std::uint32_t>(s));
    lists.tables.emplace_back(tables_[s]);
    on_device_->assume(static_cast<std::uint32_t>(s), static_cast<std::uint32_t>(context - all));
  }
  clock::time_point start, last;
  for (std::size_t i = 0; i < all; ++i) {
    if (auto taken = model_->enqueue(lists.batch(states), requests, {}); !taken) return fail(taken.error());
    lists.sources.resize(batch);
    std::iota(lists.sources.begin(), lists.sources.end(), 0);
    for (auto& position : lists.positions) ++position;
    if (i == 0) continue;
    if (auto done = model_->collect(chosen, {}); !done) return fail(done.error());
    if (i == warm) start = clock::now();
    if (each != nullptr && i > 1) each->push_back(since(last));
    last = clock::now();
  }
  if (auto done = model_->collect(chosen, {}); !done) return fail(done.error());
  return since(start) / static_cast<double>(steps);
}

std::vector<double> subject::average(const std::vector<std::vector<std::uint32_t>>& counts) const {
  std::vector<double> out(counts.empty() ? 0 : counts[0].size());
  for (const auto& one : counts)
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += one[i] / static_cast<double>(counts.size());
  return out;
}

result<timing> subject::decode(std::size_t batch, std::size_t context, std::size_t steps) {
  spread_blocks(batch, context);
  auto seconds = run_decode(batch, context, 4, steps);
  if (!seconds) return fail(seconds.error());
  timing out{*seconds, {}, {}};
  const double seen =
      static_cast<double>(batch) * (static_cast<double>(context) - static_cast<double>(steps) / 2);
  const auto rows = static_cast<double>(batch);
  out.shape = {rows, rows, rows, seen, seen};
  std::vector<std::vector<std::uint32_t>> counts;
  for (int i = 0; i < 3; ++i) {
    step_lists lists;
    for (std::size_t s = 0; s < batch; ++s) {
      lists.tokens.push_back(token());
      lists.positions.push_back(static_cast<std::int32_t>(context - 1));
      lists.rows.push_back(static_cast<std::uint32_t>(s + 1));
      lists.wanted.push_back(static_cast<std::uint32_t>(s));
      lists.slots.push_back(static_cast<std::uint32_t>(s));
      lists.tables.emplace_back(tables_[s]);
      on_device_->assume(static_cast<std::uint32_t>(s), static_cast<std::uint32_t>(context - 1));
    }
    auto one = on_device_->count_experts(lists.batch(model_->state_bytes() != 0));
    if (!one) return fail(one.error());
    counts.push_back(std::move(*one));
  }
  out.chosen = average(counts);
  return out;
}

result<double> subject::run_prefill(std::size_t tokens) {
  const bool states = model_->state_bytes() != 0;
  const auto start = clock::now();
  std::vector<ops::sampled_token> chosen(1);
  std::size_t open = 0;
  for (std::size_t begin = 0; begin < tokens; begin += options_.step_tokens) {
    const std::size_t count = std::min<std::size_t>(options_.step_tokens, tokens - begin);
    const bool last = begin + count == tokens;
    step_lists lists;
    for (std::size_t i = 0; i < count; ++i) {
      lists.tokens.push_back(token());
      lists.positions.push_back(static_cast<std::int32_t>(begin + i));
    }
    lists.rows.push_back(static_cast<std::uint32_t>(count));
    lists.slots.push_back(0);
    lists.tables.emplace_back(tables_[0]);
    if (last) lists.wanted.push_back(static_cast<std::uint32_t>(count - 1));
    if (auto taken = model_->enqueue(lists.batch(states), greedy(last ? 1 : 0), {}); !taken)
      return fail(taken.error());
    if (++open < 2) continue;
    if (auto done = model_->collect({}, {}); !done) return fail(done.error());
    --open;
  }
  if (auto done = model_->collect(chosen, {}); !done) return fail(done.error());
  return since(start);
}

result<timing> subject::prefill(std::size_t tokens) {
  spread_blocks(1, tokens);
  const std::size_t warm = std::min<std::size_t>(tokens, options_.step_tokens);
  if (auto ran = run_prefill(warm); !ran) return fail(ran.error());
  auto seconds = run_prefill(tokens);
  if (!seconds) return fail(seconds.error());
  const auto n = static_cast<double>(tokens);
  timing out{*seconds, {n, 1, 1, n * (n + 1) / 2, 0}, {}};
  // Every expert is chosen by one of so many tokens; counted on one chunk.
  step_lists lists;
  const std::size_t count = std::min<std::size_t>(warm, 1024);
  for (std::size_t i = 0; i < count; ++i) {
    lists.tokens.push_back(token());
    lists.positions.push_back(static_cast<std::int32_t>(i));
  }
  lists.rows.push_back(static_cast<std::uint32_t>(count));
  lists.slots.push_back(0);
  lists.tables.emplace_back(tables_[0]);
  lists.wanted.push_back(static_cast<std::uint32_t>(count - 1));
  auto counts = on_device_->count_experts(lists.batch(model_->state_bytes() != 0));
  if (!counts) return fail(counts.error());
  out.chosen = average({*counts});
  return out;
}

result<std::vector<double>> subject::step_times(std::size_t batch, std::size_t context, std::size_t steps) {
  if (tables_.size() != batch) spread_blocks(batch, context);
  std::vector<double> each;
  if (auto ran = run_decode(batch, context, 1, steps, &each); !ran) return fail(ran.error());
  return each;
}

result<std::vector<float>> subject::logits() {
  constexpr std::int32_t count = 16;
  step_lists lists;
  for (std::int32_t i = 0; i < count; ++i) {
    lists.tokens.push_back(i + 1);
    lists.positions.push_back(i);
  }
  lists.rows.push_back(count);
  lists.slots.push_back(0);
  lists.wanted.push_back(count - 1);
  std::vector<std::uint32_t> table((count + model_->block_tokens() - 1) / model_->block_tokens());
  std::iota(table.begin(), table.end(), 0u);
  lists.tables.emplace_back(table);
  if (auto ran = model_->run(lists.batch(model_->state_bytes() != 0)); !ran) return fail(ran.error());
  std::vector<float> out(program_->facts()->vocabulary());
  model_->read_logits(out);
  return out;
}

result<std::vector<activity>> subject::trace_decode(std::size_t batch, std::size_t context,
                                                    std::size_t steps) {
  spread_blocks(batch, context);
  on_device_->drop_graphs();  // those captured while CUPTI listens tell of their kernels
  if (auto started = start_trace(); !started) return fail(started.error());
  const auto ran = run_decode(batch, context, 4, steps);
  auto seen = stop_trace();
  on_device_->drop_graphs();
  if (!ran) return fail(ran.error());
  if (!seen) return seen;
  // From behind the copy to the host that ends the last step of the warm ones.
  std::size_t ends = 0;
  for (const auto& a : *seen) ends += a.ends_step ? 1 : 0;
  if (ends <= steps) return fail(error_code::internal, "trace: {} steps seen, {} expected", ends, steps + 4);
  auto at = seen->begin();
  for (std::size_t skipped = 0; skipped < ends - steps; ++at) skipped += at->ends_step ? 1 : 0;
  seen->erase(seen->begin(), at);
  return seen;
}

result<std::vector<activity>> subject::trace_prefill(std::size_t tokens) {
  spread_blocks(1, tokens);
  if (auto started = start_trace(); !started) return fail(started.error());
  const auto ran = run_prefill(tokens);
  auto seen = stop_trace();
  if (!ran) return fail(ran.error());
  return seen;
}

}  // namespace troupe::bench
