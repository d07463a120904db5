#include "ops/backends/cuda/cuda_model.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "ops/backends/cuda/prepare.hpp"
#include "ops/backends/cuda/status.hpp"
#include "ops/rope/rope_cuda.hpp"

namespace troupe::ops::cuda {
namespace {

constexpr std::size_t largest_bucket = 256;

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// Sizes that batches of single rows are filled up to.
std::size_t bucket_of(std::size_t rows) {
  if (rows <= 2) return rows;
  if (rows <= 4) return 4;
  if (rows <= 64) return (rows + 7) / 8 * 8;
  return (rows + 31) / 32 * 32;
}

}  // namespace

// Where the step's inputs stand on the device. The first block is copied as a whole.
struct cuda_model::places {
  std::uint32_t* part_counts = nullptr;  // [windows]
  std::int32_t *ids = nullptr, *sources = nullptr, *positions = nullptr;
  std::uint32_t *row_sequences = nullptr, *rows_wanted = nullptr;
  std::uint32_t *sequence_rows = nullptr, *first_positions = nullptr, *slots = nullptr,
                *table_starts = nullptr;
  std::vector<decode_part*> parts;  // per window
  query_tile* tiles = nullptr;
  std::uint32_t* tables = nullptr;
  float* arena = nullptr;
  char* workspace = nullptr;
  std::vector<float*> angles;  // per rope table: cosines, then sines

  // Lays all out behind `base`; answers the size.
  std::size_t lay_out(char* base, const cuda_program& program, const capacity& c) {
    std::size_t at = 0;
    const auto take = [&]<class T>(T*& p, std::size_t count) {
      p = reinterpret_cast<T*>(base + at);
      at += round_up(count * sizeof(T));
    };
    take(part_counts, std::max<std::size_t>(1, program.windows.size()));
    take(ids, c.rows);
    take(sources, c.rows);
    take(positions, c.rows);
    take(row_sequences, c.rows);
    take(rows_wanted, c.rows);
    take(sequence_rows, c.sequences + 1);
    take(first_positions, c.sequences);
    take(slots, c.sequences);
    take(table_starts, c.sequences);
    parts.resize(program.windows.size());
    for (auto& list : parts) take(list, c.parts);
    take(tiles, c.rows);
    take(tables, c.blocks);
    angles.resize(program.rope_tables.size());
    for (std::size_t i = 0; i < angles.size(); ++i)
      take(angles[i], 2 * c.rows * program.rope_tables[i].frequencies.size());
    char* bytes = nullptr;
    take(bytes, c.arena);
    arena = reinterpret_cast<float*>(bytes);
    take(workspace, c.workspace);
    return at;
  }
};

bool cuda_model::capacity::holds(const capacity& w) const {
  return rows >= w.rows && sequences >= w.sequences && parts >= w.parts && blocks >= w.blocks &&
         arena >= w.arena && workspace >= w.workspace;
}

void cuda_model::capacity::include(const capacity& w) {
  const auto raise = [](std::size_t& own, std::size_t other) { own = std::max(own, other); };
  raise(rows, w.rows);
  raise(sequences, w.sequences);
  raise(parts, w.parts);
  raise(blocks, w.blocks);
  raise(arena, w.arena);
  raise(workspace, w.workspace);
}

cuda_model::capacity cuda_model::promised(const cuda_program& program, const load_options& options) {
  capacity c;
  c.sequences = std::max<std::size_t>(options.state_slots, 1);
  c.rows = std::max<std::size_t>({options.step_tokens, bucket_of(c.sequences), 16});
  c.sequences = bucket_of(c.sequences);
  c.parts = c.sequences * most_splits(program.context_tokens);
  c.blocks = 4096;
  memory_plan plan = program.sharing;
  std::vector<std::size_t> offsets(program.tensors.size());
  c.arena = plan.place(c.rows, c.sequences, offsets) * sizeof(float);
  for (const auto& bytes : program.workspaces)
    c.workspace = std::max(c.workspace, bytes(c.rows, c.sequences, c.parts));
  return c;
}

std::size_t cuda_model::buffer_bytes(const cuda_program& program, const capacity& c) {
  places ignored;
  return ignored.lay_out(nullptr, program, c);
}

std::uint64_t cuda_model::step_bytes(const cuda_program& program, const load_options& options) {
  const auto c = promised(program, options);
  return buffer_bytes(program, c) +
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
      at_(std::make_unique<places>()),
      offsets_(program_.tensors.size()),
      parts_(program_.windows.size()) {
  if (kv_->block_stride % 8 != 0) program_.tile_tokens = 0;
}

cuda_model::~cuda_model() {
  cudaStreamSynchronize(device_->stream);
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
  if (state_stride_ > 0)
    if (auto done = take(states_, std::uint64_t{state_slots_} * state_stride_ * sizeof(float),
                         "scheduler.max_sequences: states");
        !done)
      return done;
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
  return grow(promised(program_, options));
}

void cuda_model::drop_graphs() {
  for (auto& [bucket, one] : graphs_)
    if (one.graph != nullptr) cudaGraphExecDestroy(one.graph);
  graphs_.clear();
}

// Rare: steps are as large as was promised when the model was loaded.
result<void> cuda_model::grow(const capacity& wanted) {
  if (held_.holds(wanted) && held_.rows != 0) return {};
  if (auto done = ok(cudaStreamSynchronize(device_->stream), "a step"); !done) return done;
  drop_graphs();
  const std::size_t before = held_.sequences;
  capacity next = held_;
  next.include(wanted);
  buffers_ = {};
  held_ = {};
  auto memory = device_memory::take(buffer_bytes(program_, next), "memory of the steps");
  if (!memory) return fail(std::move(memory.error()));
  buffers_ = std::move(*memory);
  held_ = next;
  at_->lay_out(buffers_.as<char>(), program_, held_);
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

// 0: this batch is not one of single rows.
std::size_t cuda_model::bucket_for(const step_batch& batch) const {
  const std::size_t rows = batch.tokens.size(), sequences = batch.sequence_rows.size() - 1;
  if (rows == 0 || rows != sequences || batch.logit_rows.size() != rows || rows > largest_bucket) return 0;
  for (std::size_t s = 0; s < sequences; ++s)
    if (batch.sequence_rows[s + 1] - batch.sequence_rows[s] != 1) return 0;
  return bucket_of(rows);
}

void cuda_model::write_attention(const step_batch& batch) {
  for (auto& list : parts_) list.clear();
  tiles_.clear();
  tables_.clear();
  table_starts_.clear();
  for (std::size_t s = 0; s + 1 < batch.sequence_rows.size(); ++s) {
    const std::uint32_t first = batch.sequence_rows[s], end = batch.sequence_rows[s + 1];
    table_starts_.push_back(static_cast<std::uint32_t>(tables_.size()));
    if (program_.kv_numbers == 0 || first == end) continue;
    const auto blocks = static_cast<std::size_t>(batch.positions[end - 1]) / kv_->block_tokens + 1;
    tables_.insert(tables_.end(), batch.block_tables[s].begin(),
                   batch.block_tables[s].begin() + static_cast<std::ptrdiff_t>(blocks));
    if (end - first > 1 && program_.tile_tokens > 0) {
      for (std::uint32_t t = first; t < end; t += program_.tile_tokens)
        tiles_.push_back({t, std::min(program_.tile_tokens, end - t)});
      continue;
    }
    for (std::size_t w = 0; w < parts_.size(); ++w)
      for (std::uint32_t t = first; t < end; ++t) {
        const auto seen = static_cast<std::uint32_t>(batch.positions[t]) + 1, window = program_.windows[w];
        add_decode_parts(parts_[w], t, window != 0 && seen > window ? seen - window : 0, seen);
      }
  }
}

// `rows`, `sequences`, `wanted`: of the launches; what the batch does not fill, rows do that belong to no sequence.
void cuda_model::write_inputs(const step_batch& batch, std::size_t rows, std::size_t sequences,
                              std::size_t wanted) {
  const std::size_t tokens = batch.tokens.size(), own = batch.sequence_rows.size() - 1;
  std::vector<std::uint32_t> counts(std::max<std::size_t>(1, parts_.size()));
  for (std::size_t w = 0; w < parts_.size(); ++w) counts[w] = static_cast<std::uint32_t>(parts_[w].size());
  std::vector<std::int32_t> ids(rows, -1), sources(rows, -1), positions(rows, -1);
  std::vector<std::uint32_t> row_sequences(rows), asked(wanted),
      starts(sequences + 1, static_cast<std::uint32_t>(tokens)), first_positions(sequences),
      state_slots(sequences), table_starts(sequences);
  std::copy(batch.tokens.begin(), batch.tokens.end(), ids.begin());
  std::copy(batch.token_sources.begin(), batch.token_sources.end(), sources.begin());
  std::copy(batch.positions.begin(), batch.positions.end(), positions.begin());
  std::copy(batch.logit_rows.begin(), batch.logit_rows.end(), asked.begin());
  for (std::size_t i = batch.logit_rows.size(); i < wanted; ++i) asked[i] = static_cast<std::uint32_t>(i);
  std::copy(batch.sequence_rows.begin(), batch.sequence_rows.end(), starts.begin());
  std::copy(table_starts_.begin(), table_starts_.end(), table_starts.begin());
  if (program_.state_floats != 0)
    std::copy(batch.state_slots.begin(), batch.state_slots.end(), state_slots.begin());
  for (std::size_t s = 0; s < own; ++s) {
    const std::uint32_t first = batch.sequence_rows[s], end = batch.sequence_rows[s + 1];
    if (first != end) first_positions[s] = static_cast<std::uint32_t>(batch.positions[first]);
    for (std::uint32_t t = first; t < end; ++t) row_sequences[t] = static_cast<std::uint32_t>(s);
  }
  const auto send_all = [&](const auto& values, auto* to) {
    using value = typename std::remove_cvref_t<decltype(values)>::value_type;
    append(std::span<const value>(values), to);
  };
  send_all(counts, at_->part_counts);
  send_all(ids, at_->ids);
  send_all(sources, at_->sources);
  send_all(positions, at_->positions);
  send_all(row_sequences, at_->row_sequences);
  send_all(asked, at_->rows_wanted);
  send_all(starts, at_->sequence_rows);
  send_all(first_positions, at_->first_positions);
  send_all(state_slots, at_->slots);
  send_all(table_starts, at_->table_starts);
  for (std::size_t w = 0; w < parts_.size(); ++w) send_all(parts_[w], at_->parts[w]);
  send_all(tiles_, at_->tiles);
  send_all(tables_, at_->tables);
}

// Copies the image to the device through a pinned buffer of the slot. Neighbours on both sides travel together.
result<void> cuda_model::send(pinned_memory& through) {
  if (auto done = ok(cudaEventSynchronize(ring_[next_slot_].done), "a step"); !done) return done;
  if (through.bytes() < image_.size()) {
    through = {};
    auto memory = pinned_memory::take(image_.size() * 2, "cudaMallocHost for the inputs of steps");
    if (!memory) return fail(std::move(memory.error()));
    through = std::move(*memory);
  }
  if (!image_.empty()) std::memcpy(through.as(), image_.data(), image_.size());
  for (std::size_t i = 0; i < pieces_.size();) {
    const piece& first = pieces_[i];
    std::size_t bytes = first.bytes, next = i + 1;
    while (next < pieces_.size() && static_cast<char*>(pieces_[next].to) - static_cast<char*>(first.to) ==
                                        static_cast<std::ptrdiff_t>(pieces_[next].offset - first.offset)) {
      bytes = pieces_[next].offset - first.offset + pieces_[next].bytes;
      ++next;
    }
    if (auto done = ok(cudaMemcpyAsync(first.to, through.as() + first.offset, bytes, cudaMemcpyHostToDevice,
                                       device_->stream),
                       "cudaMemcpyAsync of a step's inputs");
        !done)
      return done;
    i = next;
  }
  image_.clear();
  pieces_.clear();
  return {};
}

result<void> cuda_model::enter_states(const step_batch& batch) {
  if (program_.state_floats == 0) return {};
  for (std::size_t s = 0; s + 1 < batch.sequence_rows.size(); ++s) {
    const std::uint32_t first = batch.sequence_rows[s];
    if (first == batch.sequence_rows[s + 1] || batch.positions[first] != 0) continue;
    if (auto done = ok(cudaMemsetAsync(states_.as<float>() + batch.state_slots[s] * state_stride_, 0,
                                       program_.state_floats * sizeof(float), device_->stream),
                       "cudaMemsetAsync of a state");
        !done)
      return done;
  }
  return {};
}

step_frame cuda_model::frame(std::size_t tokens, std::size_t sequences, std::size_t logit_rows,
                             memory_plan& plan) {
  plan.place(tokens, logit_rows, offsets_);
  step_frame f;
  f.stream = device_->stream;
  f.limits = device_->limits;
  f.products = device_->products.get();
  f.tokens = tokens;
  f.sequences = sequences;
  f.logit_rows = logit_rows;
  f.arena = at_->arena;
  f.offsets = offsets_.data();
  f.workspace = at_->workspace;
  f.token_ids = at_->ids;
  f.rows_wanted = at_->rows_wanted;
  f.sequence_rows = at_->sequence_rows;
  f.first_positions = at_->first_positions;
  f.tables = {at_->positions, at_->row_sequences, at_->table_starts, at_->tables, nullptr,
              nullptr,        at_->tiles};
  for (std::size_t w = 0; w < parts_.size(); ++w)
    f.parts.push_back({at_->parts[w], at_->part_counts + w, parts_[w].size()});
  f.tile_count = tiles_.size();
  f.states = state_tables_.as<float* const* const>();
  for (std::size_t i = 0; i < at_->angles.size(); ++i) {
    const std::size_t pairs = program_.rope_tables[i].frequencies.size();
    f.cosines.push_back({at_->angles[i], tokens, pairs});
    f.sines.push_back({at_->angles[i] + tokens * pairs, tokens, pairs});
  }
  return f;
}

result<void> cuda_model::launch_ops(const step_frame& f) {
  for (std::size_t i = 0; i < f.cosines.size(); ++i)
    rope_angles_cuda(f.stream, f.cosines[i], f.sines[i], f.tables.positions,
                     frequencies_.as<float>() + frequency_starts_[i], program_.rope_tables[i].amplitude);
  const std::size_t count = program_.states.size();
  if (count > 0) {
    auto* tables = state_tables_.as<float**>();
    point_to_states(f.stream, tables, states_.as<float>(), at_->slots, state_stride_,
                    reinterpret_cast<const std::size_t*>(tables + count), count, f.sequences);
  }
  for (const auto& op : program_.ops) {
    if (auto done = op.launch(f); !done) return done;
    if (auto done = ok(cudaGetLastError(), op.where); !done) return done;
  }
  return {};
}

result<void> cuda_model::launch_bucket(std::size_t bucket) {
  auto f = frame(bucket, bucket, bucket, program_.sharing);
  for (auto& list : f.parts) list.limit = bucket * most_splits(program_.context_tokens);
  logits_ = f.arena + offsets_[program_.logits];
  auto& own = graphs_[bucket];
  // The first time as it is: libraries load what they need.
  if (++own.uses == 1) return launch_ops(f);
  if (own.graph == nullptr) {
    if (auto done =
            ok(cudaStreamBeginCapture(f.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
        !done)
      return done;
    auto launched = launch_ops(f);
    cudaGraph_t graph = nullptr;
    auto ended = ok(cudaStreamEndCapture(f.stream, &graph), "cudaStreamEndCapture");
    if (launched && ended) ended = ok(cudaGraphInstantiate(&own.graph, graph, 0), "cudaGraphInstantiate");
    if (graph != nullptr) cudaGraphDestroy(graph);
    if (!launched) return launched;
    if (!ended) return ended;
  }
  return ok(cudaGraphLaunch(own.graph, f.stream), "cudaGraphLaunch");
}

result<void> cuda_model::launch_step(const step_batch& batch, std::span<probe_request> probes) {
  if (auto done = check_.check(batch); !done) return done;
  if (auto done = find_probes(probes); !done) return done;
  write_attention(batch);
  const std::size_t bucket = probes.empty() ? bucket_for(batch) : 0;
  const std::size_t rows = bucket != 0 ? bucket : batch.tokens.size();
  const std::size_t sequences = bucket != 0 ? bucket : batch.sequence_rows.size() - 1;
  const std::size_t wanted = bucket != 0 ? bucket : batch.logit_rows.size();
  memory_plan& plan = probes.empty() ? program_.sharing : program_.separate;
  capacity needed{rows, sequences, bucket * most_splits(program_.context_tokens), tables_.size(), 0, 0};
  for (const auto& list : parts_) needed.parts = std::max(needed.parts, list.size());
  needed.arena = plan.place(rows, wanted, offsets_) * sizeof(float);
  for (const auto& bytes : program_.workspaces)
    needed.workspace = std::max(needed.workspace, bytes(rows, sequences, needed.parts));
  if (auto done = grow(needed); !done) return keep_failure(done);
  check_.enter(batch);
  logit_rows_ = batch.logit_rows.size();
  if (rows == 0) return {};
  write_inputs(batch, rows, sequences, wanted);
  if (auto done = send(ring_[next_slot_].inputs); !done) return keep_failure(done);
  if (auto done = enter_states(batch); !done) return keep_failure(done);
  if (!batch.token_sources.empty())
    resolve_tokens(device_->stream, at_->ids, at_->sources, tokens_[parity_].as<std::int32_t>(),
                   batch.tokens.size());
  if (bucket != 0) return keep_failure(launch_bucket(bucket));
  const auto f = frame(rows, sequences, wanted, plan);
  logits_ = f.arena + offsets_[program_.logits];
  if (auto done = launch_ops(f); !done) return keep_failure(done);
  return probes.empty() ? result<void>{} : keep_failure(read_probes(f, probes));
}

result<void> cuda_model::find_probes(std::span<const probe_request> probes) {
  probed_.clear();
  for (const auto& probe : probes) {
    const auto found = std::find_if(program_.probes.begin(), program_.probes.end(),
                                    [&](const auto& known) { return known.name == probe.name; });
    if (found == program_.probes.end())
      return fail(error_code::invalid_request, "the Program has no probe {}", probe.name);
    probed_.push_back(found->tensor);
  }
  return {};
}

result<void> cuda_model::read_probes(const step_frame& f, std::span<probe_request> probes) {
  if (auto done = ok(cudaStreamSynchronize(f.stream), "a step"); !done) return done;
  for (std::size_t i = 0; i < probes.size(); ++i) {
    const auto& tensor = program_.tensors[probed_[i]];
    probes[i].values.resize((tensor.logit_rows ? f.logit_rows : f.tokens) * tensor.width);
    if (auto done = ok(cudaMemcpy(probes[i].values.data(), f.arena + f.offsets[probed_[i]],
                                  probes[i].values.size() * sizeof(float), cudaMemcpyDeviceToHost),
                       "cudaMemcpy of a probe");
        !done)
      return done;
  }
  return {};
}

result<void> cuda_model::run(const step_batch& batch, std::span<probe_request> probes) {
  if (!failure_.empty()) return fail(error_code::internal, "{}", failure_);
  if (auto done = launch_step(batch, probes); !done) return done;
  return keep_failure(ok(cudaStreamSynchronize(device_->stream), "a step"));
}

void cuda_model::read_logits(std::span<float> out) {
  assert(out.size() == logit_rows_ * program_.vocabulary);
  if (out.empty()) return;
  (void)keep_failure(
      ok(cudaMemcpy(out.data(), logits_, out.size_bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy of logits"));
}

result<void> cuda_model::enqueue(const step_batch& batch, std::span<const sample_request> samples,
                                 std::span<const score_request> scores) {
  if (!failure_.empty()) return fail(error_code::internal, "{}", failure_);
  if (in_flight_ == 2)
    return fail(error_code::internal, "step: two are on their way already, and none was collected");
  if (auto done = launch_step(batch, {}); !done) return done;
  check_.sampled(samples.size());
  if (auto done = launch_choices(samples, scores); !done) return keep_failure(done);
  ++in_flight_;
  return {};
}

bool cuda_model::ready() {
  return in_flight_ == 0 || cudaEventQuery(ring_[oldest_].done) != cudaErrorNotReady;
}

result<void> cuda_model::collect(std::span<sampled_token> samples, std::span<sampled_token> scores) {
  if (in_flight_ == 0) return fail(error_code::internal, "collect: no step was enqueued");
  slot& own = ring_[oldest_];
  oldest_ = (oldest_ + 1) % slots;
  --in_flight_;
  return keep_failure(finish(samples, scores, own));
}

void cuda_model::sample(std::span<const sample_request> requests, std::span<sampled_token> outputs) {
  std::fill(outputs.begin(), outputs.end(), sampled_token{-1, 0, {}, false});
  if (requests.empty() || !failure_.empty()) return;
  if (auto done = launch_choices(requests, {}); !done) return void(keep_failure(done));
  slot& own = ring_[oldest_];
  oldest_ = (oldest_ + 1) % slots;
  (void)keep_failure(finish(outputs, {}, own));
}

void cuda_model::score(std::span<const score_request> requests, std::span<sampled_token> outputs) {
  std::fill(outputs.begin(), outputs.end(), sampled_token{-1, 0, {}, false});
  if (requests.empty() || !failure_.empty()) return;
  if (auto done = launch_choices({}, requests); !done) return void(keep_failure(done));
  slot& own = ring_[oldest_];
  oldest_ = (oldest_ + 1) % slots;
  (void)keep_failure(finish({}, outputs, own));
}

}  // namespace troupe::ops::cuda
