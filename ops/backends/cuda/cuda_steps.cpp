// A step: inputs, launches, probes; and the two ways in which steps come.
#include <algorithm>
#include <cassert>
#include <mutex>

#include "ops/backends/cuda/cuda_model.hpp"
#include "ops/backends/cuda/prepare.hpp"
#include "ops/backends/cuda/status.hpp"
#include "ops/rope/rope_cuda.hpp"

namespace troupe::ops::cuda {

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
  f.arena = at_.arena;
  f.offsets = offsets_.data();
  f.workspace = at_.workspace;
  f.token_ids = in_.ids;
  f.rows_wanted = in_.rows_wanted;
  f.sequence_rows = in_.sequence_rows;
  f.first_positions = in_.first_positions;
  f.tables = {in_.positions, in_.row_sequences, in_.table_starts, in_.tables, nullptr, nullptr, in_.tiles};
  for (std::size_t w = 0; w < parts_.size(); ++w)
    f.parts.push_back({in_.parts[w], in_.part_counts + w, parts_[w].size()});
  f.tile_count = tiles_.size();
  f.expert_marks = marks_;
  f.states = state_tables_.as<float* const* const>();
  for (std::size_t i = 0; i < at_.angles.size(); ++i) {
    const std::size_t pairs = program_.rope_tables[i].frequencies.size();
    f.cosines.push_back({at_.angles[i], tokens, pairs});
    f.sines.push_back({at_.angles[i] + tokens * pairs, tokens, pairs});
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
    point_to_states(f.stream, tables, states_.as<float>(), in_.slots, state_stride_,
                    reinterpret_cast<const std::size_t*>(tables + count), count, f.sequences);
  }
  for (const auto& op : program_.ops) {
    if (auto done = op.launch(f); !done) return done;
    if (auto done = ok(cudaGetLastError(), op.where); !done) return done;
  }
  return {};
}

result<void> cuda_model::launch_bucket(std::size_t bucket) {
  auto& own = graphs_[bucket];
  if (own.graph != nullptr) {
    logits_ = own.logits;
    return ok(cudaGraphLaunch(own.graph, device_->stream), "cudaGraphLaunch");
  }
  auto f = frame(bucket, bucket, bucket, program_.sharing);
  for (auto& list : f.parts) list.limit = bucket * most_splits(program_.context_tokens);
  logits_ = own.logits = f.arena + offsets_[program_.logits];
  // The first time as it is: libraries load what they need.
  if (++own.uses == 1) return launch_ops(f);
  std::unique_lock capturing(device_->capturing);
  if (auto done =
          ok(cudaStreamBeginCapture(f.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
      !done)
    return done;
  auto launched = launch_ops(f);
  cudaGraph_t graph = nullptr;
  auto ended = ok(cudaStreamEndCapture(f.stream, &graph), "cudaStreamEndCapture");
  capturing.unlock();
  if (launched && ended) ended = ok(cudaGraphInstantiate(&own.graph, graph, 0), "cudaGraphInstantiate");
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (!launched) return launched;
  if (!ended) return ended;
  return ok(cudaGraphLaunch(own.graph, f.stream), "cudaGraphLaunch");
}

// What a step of that many launched rows takes. Known for a bucket that has been captured.
step_capacity cuda_model::needs(std::size_t rows, std::size_t sequences, std::size_t wanted,
                                std::size_t bucket, memory_plan& plan) {
  const auto known = graphs_.find(bucket);
  if (bucket != 0 && known != graphs_.end() && known->second.graph != nullptr) {
    step_capacity needed = known->second.needed;
    needed.blocks = tables_.size();
    return needed;
  }
  step_capacity needed{rows, sequences, bucket * most_splits(program_.context_tokens), tables_.size(), 0, 0};
  for (const auto& list : parts_) needed.parts = std::max(needed.parts, list.size());
  needed.arena = plan.place(rows, wanted, offsets_) * sizeof(float);
  for (const auto& bytes : program_.workspaces)
    needed.workspace = std::max(needed.workspace, bytes(rows, sequences, needed.parts));
  return needed;
}

result<void> cuda_model::send_inputs(const step_batch& batch, const step_capacity& needed,
                                     std::size_t wanted) {
  in_.lay_out(at_.inputs, program_, needed);
  slot& own = ring_[next_slot_];
  if (auto done = ok(cudaEventSynchronize(own.done), "a step"); !done) return done;
  if (auto done = image_.begin(own.inputs, at_.inputs, at_.input_bytes); !done) return done;
  write_inputs(batch, needed.rows, needed.sequences, wanted);
  if (auto done = image_.send(device_->stream); !done) return done;
  if (auto done = enter_states(batch); !done) return done;
  if (!batch.token_sources.empty())
    resolve_tokens(device_->stream, in_.ids, in_.sources, tokens_[parity_].as<std::int32_t>(),
                   batch.tokens.size());
  return {};
}

result<void> cuda_model::launch_step(const step_batch& batch, std::span<probe_request> probes) {
  if (auto done = check_.check(batch); !done) return done;
  if (auto done = find_probes(probes); !done) return done;
  write_attention(batch);
  const std::size_t bucket = probes.empty() && marks_ == nullptr ? bucket_for(batch) : 0;
  const std::size_t rows = bucket != 0 ? bucket : batch.tokens.size();
  const std::size_t sequences = bucket != 0 ? bucket : batch.sequence_rows.size() - 1;
  const std::size_t wanted = bucket != 0 ? bucket : batch.logit_rows.size();
  memory_plan& plan = probes.empty() ? program_.sharing : program_.separate;
  const auto needed = needs(rows, sequences, wanted, bucket, plan);
  if (auto done = grow(needed); !done) return keep_failure(done);
  check_.enter(batch);
  logit_rows_ = batch.logit_rows.size();
  if (rows == 0) return {};
  if (auto done = send_inputs(batch, needed, wanted); !done) return keep_failure(done);
  if (bucket != 0) {
    graphs_[bucket].needed = needed;
    return keep_failure(launch_bucket(bucket));
  }
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

result<std::vector<std::uint32_t>> cuda_model::count_experts(const step_batch& batch) {
  const std::size_t bytes = std::max<std::size_t>(1, program_.expert_marks) * sizeof(std::uint32_t);
  auto memory = device_memory::take(bytes, "marks of the experts");
  if (!memory) return fail(std::move(memory.error()));
  marks_ = memory->as<std::uint32_t>();
  auto done = ok(cudaMemsetAsync(marks_, 0, bytes, device_->stream), "cudaMemsetAsync of marks");
  if (done) done = run(batch, {});
  marks_ = nullptr;
  if (!done) return fail(std::move(done.error()));
  std::vector<std::uint32_t> marks(program_.expert_marks), counts;
  if (auto read = ok(cudaMemcpy(marks.data(), memory->as<void>(), marks.size() * sizeof(std::uint32_t),
                                cudaMemcpyDeviceToHost),
                     "cudaMemcpy of marks");
      !read)
    return fail(std::move(read.error()));
  std::size_t begin = 0;
  for (const std::size_t experts : program_.routers) {
    std::uint32_t used = 0;
    for (std::size_t e = 0; e < experts; ++e) used += marks[begin + e] != 0 ? 1 : 0;
    counts.push_back(used);
    begin += experts;
  }
  return counts;
}

void cuda_model::assume(std::uint32_t state_slot, std::uint32_t position) {
  check_.assume(state_slot, position);
}

result<void> cuda_model::run(const step_batch& batch, std::span<probe_request> probes) {
  if (auto able = check_awake(); !able) return able;
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
  if (auto able = check_awake(); !able) return able;
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
