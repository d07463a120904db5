#include "ops/backends/cuda/cuda_model.hpp"

#include <algorithm>
#include <cstring>

#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {

std::uint64_t cuda_model::step_bytes(const cuda_program& program, const load_options& options,
                                     std::uint32_t pool_blocks) {
  const auto c = step_capacity::promised(program, options, pool_blocks);
  step_memory ignored;
  return ignored.lay_out(nullptr, program, c) +
         c.sequences * program.vocabulary * sizeof(float);  // scratch of the choices
}

cuda_model::cuda_model(std::shared_ptr<device> on, program::verified_program source, cuda_program program,
                       weight_store weights, std::unique_ptr<kv_places> kv, const load_options& options)
    : device_(std::move(on)),
      source_(std::move(source)),
      program_(std::move(program)),
      weights_(std::move(weights)),
      kv_(std::move(kv)),
      check_({program_.vocabulary, program_.kv_numbers != 0 ? kv_->block_tokens : 0, device_->blocks,
              program_.state_floats != 0, options.state_slots}),
      state_slots_(options.state_slots),
      offsets_(program_.tensors.size()),
      parts_(program_.windows.size()) {
  if (kv_->block_stride % 8 != 0) program_.tile_tokens = 0;
}

cuda_model::~cuda_model() {
  (void)device_->wait();
  drop_graphs();
  for (auto& one : ring_)
    if (one.done != nullptr) cudaEventDestroy(one.done);
}

result<std::unique_ptr<model>> cuda_model::make(std::shared_ptr<device> on, program::verified_program source,
                                                cuda_program program, weight_store weights,
                                                std::unique_ptr<kv_places> kv, const load_options& options) {
  std::unique_ptr<cuda_model> made(new cuda_model(std::move(on), std::move(source), std::move(program),
                                                  std::move(weights), std::move(kv), options));
  if (auto done = made->prepare(options); !done) return fail(std::move(done.error()));
  return std::unique_ptr<model>(std::move(made));
}

result<void> cuda_model::prepare(const load_options& options) {
  const auto take = [](device_memory& to, std::uint64_t bytes, std::string_view what) -> result<void> {
    auto memory = device_memory::take(bytes, what);
    if (!memory) return fail(std::move(memory.error()));
    to = std::move(*memory);
    return {};
  };
  for (auto& one : ring_)
    if (auto done = ok(cudaEventCreateWithFlags(&one.done, cudaEventDisableTiming), "cudaEventCreate"); !done)
      return done;
  state_stride_ = (program_.state_floats + 15) / 16 * 16;
  if (state_stride_ > 0) {
    auto states = reserved_range::take(std::uint64_t{state_slots_} * state_stride_ * sizeof(float),
                                       "scheduler.max_sequences: states");
    if (!states) return fail(std::move(states.error()));
    states_ = std::move(*states);
  }
  std::vector<float> all;
  for (const auto& table : program_.rope_tables) {
    frequency_starts_.push_back(all.size());
    all.insert(all.end(), table.frequencies.begin(), table.frequencies.end());
  }
  if (auto done = take(frequencies_, all.size() * sizeof(float), "rope frequencies"); !done) return done;
  if (auto done = ok(
          cudaMemcpy(frequencies_.as<void>(), all.data(), all.size() * sizeof(float), cudaMemcpyHostToDevice),
          "cudaMemcpy of rope frequencies");
      !done)
    return done;
  if (auto done = grow(step_capacity::promised(program_, options, device_->blocks)); !done) return done;
  return reserve_choices(std::max<std::size_t>(options.state_slots, 1));
}

void cuda_model::drop_graphs() {
  for (auto& [bucket, one] : graphs_)
    if (one.graph != nullptr) cudaGraphExecDestroy(one.graph);
  graphs_.clear();
}

std::size_t cuda_model::graphs() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(graphs_, [](const auto& one) { return one.second.graph != nullptr; }));
}

result<void> cuda_model::grow(const step_capacity& wanted) {
  if (held_.holds(wanted) && held_.rows != 0) return {};
  if (auto done = device_->wait(); !done) return done;
  drop_graphs();
  const std::size_t before = held_.sequences;
  step_capacity next = held_;
  next.include(wanted);
  buffers_ = {};
  held_ = {};
  auto memory = reserved_range::take(at_.lay_out(nullptr, program_, next), "memory of the steps");
  if (!memory) return fail(std::move(memory.error()));
  buffers_ = std::move(*memory);
  held_ = next;
  at_.lay_out(buffers_.as<char>(), program_, held_);
  const std::size_t count = program_.states.size();
  if (count == 0 || held_.sequences == before) return {};
  // [count] pointers to the tables, [count] starts, then the tables [count][S].
  auto tables = device_memory::take(
      count * (sizeof(void*) + sizeof(std::size_t) + held_.sequences * sizeof(void*)), "states' tables");
  if (!tables) return fail(std::move(tables.error()));
  state_tables_ = std::move(*tables);
  std::vector<char> image(count * (sizeof(void*) + sizeof(std::size_t)));
  char* first = state_tables_.as<char>() + image.size();
  for (std::size_t i = 0; i < count; ++i) {
    char* table = first + i * held_.sequences * sizeof(void*);
    std::memcpy(image.data() + i * sizeof(void*), &table, sizeof table);
    std::memcpy(image.data() + count * sizeof(void*) + i * sizeof(std::size_t), &program_.states[i],
                sizeof(std::size_t));
  }
  return ok(cudaMemcpy(state_tables_.as<void>(), image.data(), image.size(), cudaMemcpyHostToDevice),
            "cudaMemcpy of states' tables");
}

result<void> cuda_model::keep_failure(result<void> done) {
  if (!done && failure_.empty()) failure_ = done.error().text;
  return done;
}

}  // namespace troupe::ops::cuda
