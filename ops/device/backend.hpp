// What the executor asks of a device. A backend is a shared library (libtroupe-cpu.so, libtroupe-cuda.so) of
// the same build as the executor, that exports `troupe_open_backend`. docs/notation.md names the letters: T
// tokens of the step, S sequences, R logit rows, V vocabulary.
//
// Threads: one thread at a time calls into a backend's models (the executor's). Another one may load a model, destroy one that
// is not used any more, and let one sleep or wake, while steps of others run (the executor's loader).
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/native_ops.hpp"
#include "kernel/program/program.hpp"
#include "ops/sampling/sampling.hpp"

namespace troupe::ops {

// A ragged batch: T tokens of S sequences, prefill chunks and decode tokens mixed. Borrowed for the call.
struct step_batch {
  std::span<const std::int32_t> tokens;          // [T] ids, each in [0, V)
  std::span<const std::int32_t> positions;       // [T] ascending by one within a sequence
  std::span<const std::uint32_t> sequence_rows;  // [S+1] sequence s has rows [s] to [s+1]
  // [S] the blocks that hold positions 0 to the last of the step
  std::span<const std::span<const std::uint32_t>> block_tables;
  std::span<const std::uint32_t> logit_rows;  // [R] ascending rows of `tokens` whose logits are wanted
  // [S] of a model with recurrent state: where each sequence's state lives, below load_options::state_slots, no two alike. A
  // sequence keeps its slot; its state is zeroed in the step that begins at position 0.
  std::span<const std::uint32_t> state_slots;
  // [T], or empty: where not negative, the row's token is the one that this sample request of the step enqueued before this one
  // has chosen or will choose, and tokens[t] is not looked at.
  std::span<const std::int32_t> token_sources;
};

// Chooses the next token behind one logit row.
struct sample_request {
  std::uint32_t logit_row = 0;  // index in step_batch::logit_rows
  const sampling_params* params = nullptr;
  std::span<const std::int32_t> history;  // prompt and generated tokens: penalties
  std::uint32_t prompt_tokens = 0;        // of history
  std::uint64_t position = 0;             // tokens generated so far: with the seed it determines the draw
  std::span<const std::int32_t> banned;   // ids that may not be chosen now (stop ids before min_tokens)
  std::int32_t top_logprobs = -1;         // -1 = no log-probabilities
  // The sample request of the step enqueued before this one whose token ends the history but does not stand in it yet; -1 = none.
  std::int32_t pending = -1;
};

// Log-probability of a given token behind one logit row (prompt logprobs).
struct score_request {
  std::uint32_t logit_row = 0;
  std::int32_t token = 0;
  std::uint32_t top_logprobs = 0;
};

// What a Program's named probes held in the last run; for tests and `troupe check`.
struct probe_request {
  std::string name;
  std::vector<float> values;  // filled: [T or R, ...] row-major
};

// What model::sleep() or wake() has moved.
struct rest_report {
  std::uint64_t device_bytes = 0;  // that the device got back, or gave again
  std::uint64_t host_bytes = 0;    // copied over the link: what sleep() keeps, what wake() has brought back
  // Of wake(): the copy that nobody needs any more. With the last reference its memory is given back, which takes a while.
  std::shared_ptr<void> spent;
};

// A Program compiled for this device with its weights bound. Destroyed before its backend.
//
// Steps come in two ways, which one caller does not mix: run(), then what is to be known of it; or enqueue() and collect(), where the
// device may still compute a step while the next one is enqueued.
class model {
 public:
  virtual ~model() = default;
  virtual std::uint32_t block_tokens() const = 0;  // positions that one cache block holds for this model
  virtual std::uint64_t weight_bytes() const = 0;
  virtual std::uint64_t state_bytes() const = 0;  // recurrent state of one sequence; 0 = the model has none

  // Runs one step; writes K/V into the blocks and state into the slots. Logits stay on the device until the next run.
  virtual result<void> run(const step_batch& batch, std::span<probe_request> probes = {}) = 0;

  // After run(). outputs.size() == requests.size().
  virtual void sample(std::span<const sample_request> requests, std::span<sampled_token> outputs) = 0;
  virtual void score(std::span<const score_request> requests, std::span<sampled_token> outputs) = 0;

  // After run(). Copies logits [R, V] to the host.
  virtual void read_logits(std::span<float> out) = 0;

  // Whether enqueue() returns before its step is computed. If not, nothing is won by enqueueing before collect().
  virtual bool overlaps() const { return false; }

  // Whether collect() would not wait.
  virtual bool ready() { return true; }

  // Takes one step: the batch, then the choices and scores behind its logit rows. What is passed in is borrowed for the call. At most
  // two steps may be uncollected. Error: the batch contradicts itself (nothing happened), or the device failed (the model is of no
  // further use).
  virtual result<void> enqueue(const step_batch& batch, std::span<const sample_request> samples,
                               std::span<const score_request> scores);
  // Waits for the oldest step that is not collected and tells what was chosen; sizes as in its enqueue(). Error: the device failed.
  virtual result<void> collect(std::span<sampled_token> samples, std::span<sampled_token> scores);

  // Copies the weights to host memory and gives the device's memory back; its addresses stay, and with them all that points there. Until
  // wake() it takes no step; it may be destroyed. No step of it is uncollected. Any thread (one at a time), while others of the backend
  // compute. Errors: unsupported (its weights are the files' mapping: destroying and loading costs no copy), no_room (for the copy in
  // host memory, with what is there), internal (the device). It is awake then, as before.
  virtual result<rest_report> sleep() {
    return fail(error_code::unsupported, "its weights are a mapping of its files");
  }
  // The same way back; then it is as it was, but for the state of sequences. Errors: no_room (others have the device's memory: it sleeps
  // on), internal (the device: it is of no further use).
  virtual result<rest_report> wake() { return fail(error_code::internal, "it does not sleep"); }

 private:
  // Of the two functions above, on a backend that has only run().
  struct computed_step {
    std::vector<sampled_token> samples, scores;
  };
  std::deque<computed_step> computed_;
  std::vector<sampled_token> before_;  // samples of the last step enqueued
};

inline result<void> model::enqueue(const step_batch& batch, std::span<const sample_request> samples,
                                   std::span<const score_request> scores) {
  step_batch known = batch;
  std::vector<std::int32_t> tokens(batch.tokens.begin(), batch.tokens.end());
  for (std::size_t t = 0; t < batch.token_sources.size(); ++t)
    if (batch.token_sources[t] >= 0)
      tokens[t] = before_.at(static_cast<std::size_t>(batch.token_sources[t])).token;
  known.tokens = tokens;
  known.token_sources = {};
  if (auto ran = run(known); !ran) return ran;
  std::vector<sample_request> requests(samples.begin(), samples.end());
  std::vector<std::vector<std::int32_t>> histories(samples.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].pending < 0) continue;
    histories[i].assign(requests[i].history.begin(), requests[i].history.end());
    histories[i].push_back(before_.at(static_cast<std::size_t>(requests[i].pending)).token);
    requests[i].history = histories[i];
  }
  computed_step step{std::vector<sampled_token>(samples.size()), std::vector<sampled_token>(scores.size())};
  if (!requests.empty()) sample(requests, step.samples);
  if (!scores.empty()) score(scores, step.scores);
  before_ = step.samples;
  computed_.push_back(std::move(step));
  return {};
}

inline result<void> model::collect(std::span<sampled_token> samples, std::span<sampled_token> scores) {
  if (computed_.empty()) return fail(error_code::internal, "collect: no step was enqueued");
  std::move(computed_.front().samples.begin(), computed_.front().samples.end(), samples.begin());
  std::move(computed_.front().scores.begin(), computed_.front().scores.end(), scores.begin());
  computed_.pop_front();
  return {};
}

struct load_options {
  program::native_ops native_ops;  // of the module that built the Program; kept as long as the model lives
  std::uint32_t state_slots = 0;   // sequences whose recurrent state can be alive at once
  std::uint32_t step_tokens =
      0;  // T of the largest step: memory for its activations is set aside at once; 0 = unknown
  bool int8 =
      false;  // weights that the Program allows to be quantized become int8 with a scale per row (the CPU backend refuses)
  std::function<void(std::string_view line)>
      tell;  // what people should know of the loading: the memory plan; may be empty
  std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> progress;  // may be empty
};

struct device_info {
  std::string name;    // "cpu"
  std::string detail;  // "2 threads, AVX3"
};

struct backend_options {
  std::uint32_t threads = 0;      // 0 = all cores
  bool reference_ops = false;     // plain loops instead of the fast versions
  std::uint32_t blocks = 0;       // cache blocks in the pool
  std::uint64_t block_bytes = 0;  // bytes of each
};

class backend {
 public:
  virtual ~backend() = default;
  virtual device_info info() const = 0;

  // Keeps `files` mapped as long as the model lives. Errors: bad_checkpoint (weights), unsupported (an op, a
  // dtype or int8), bad_config (a cache block is too small for one token: says how large it must be; no memory for the state of so
  // many sequences or for the activations of so large a step), bad_program (a native op that the module has not, or that refuses its operands).
  virtual result<std::unique_ptr<model>> load(const program::verified_program& program,
                                              std::shared_ptr<const checkpoint::weights> files,
                                              const load_options& options = {}) = 0;
};

// The one exported symbol of a backend library: `troupe_open_backend`.
using open_backend_function = result<std::unique_ptr<backend>>(const backend_options&);

}  // namespace troupe::ops
