// Runs the steps of one model: keeps what a sequence needs between steps, turns each StepPlan into one batch for the
// backend, and says what was sampled. Knows no queue, no clock and no actor. One thread.
//
// Sequences end here by themselves (stop id, length, broken logits); plans that still name them are served without them.
//
// A sequence of a model with recurrent state holds a slot from its beginning to its end. The scheduler never has more than
// `max_sequences` in its batch and names those that left it in `end` before others begin, so there always is one.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "actors/executor/slot_pool.hpp"
#include "kernel/base/ids.hpp"
#include "kernel/base/result.hpp"
#include "kernel/frame/message.hpp"
#include "ops/device/backend.hpp"
#include "troupe/schemas/actors_generated.h"

namespace troupe {

class step_runner {
 public:
  // `vocabulary`: V; token ids outside [0, V) end their sequence with an error instead of reaching the backend.
  // `max_sequences`: of the scheduler's batch; the model was loaded with as many state slots.
  step_runner(model_id model, std::shared_ptr<ops::model> compiled, std::uint32_t vocabulary,
              std::uint32_t max_sequences);
  ~step_runner();

  // Another version of the model runs the steps from here on, of the same vocabulary. Sequences that have begun go on with it: their
  // blocks must mean the same to both.
  void use(std::shared_ptr<ops::model> compiled) { model_ = std::move(compiled); }

  // One step. A sequence that is at fault is dropped and reported in the result; the others go on.
  // Error: the backend failed; the K/V of all sequences are then in doubt.
  result<message<wire::StepResult>> run(const wire::StepPlan& plan);

  // The same in two halves, of which at most two first ones may be without their second: the device computes a step while the next
  // one is prepared, which continues behind tokens that nobody has seen yet. A sequence that ends in a step is in the next one for
  // nothing; what comes of it there is dropped.
  result<void> enqueue(const wire::StepPlan& plan);
  result<message<wire::StepResult>> collect();
  std::size_t uncollected() const { return steps_.size(); }
  bool overlaps() const { return model_->overlaps(); }  // whether anything is won by it
  bool ready() const { return model_->ready(); }        // collect() would not wait

  // The answer to a plan that may not be run any more; none is uncollected. The sequences that it ends are dropped.
  message<wire::StepResult> empty_result(const wire::StepPlan& plan);

  std::size_t sequences() const { return sequences_.size(); }
  std::size_t free_slots() const { return slots_.free(); }  // for tests
  const ops::model& compiled() const { return *model_; }

 private:
  struct sequence;
  struct row;      // a sequence's part in the batch
  struct outcome;  // what the result says of it
  struct step;     // what is to be told of a batch when it is computed

  void end_sequences(const wire::StepPlan& plan);
  void forget(std::uint64_t id);
  void begin(const wire::BeginSequence& begin);
  void grow(const flatbuffers::Vector<const wire::BlockGrant*>& grants);
  void add_chunk(const wire::PrefillChunk& chunk);
  void add_decode(std::uint64_t id);
  void add_row(std::uint64_t id, sequence& s, std::uint32_t position, std::uint32_t tokens);
  std::uint32_t add_logit_row(std::uint32_t token_row);
  void refuse(std::uint64_t id, std::string text);
  ops::step_batch batch() const;
  void finish(std::uint64_t id, sequence& s);
  void settle(outcome& o, sequence& s, const ops::sampled_token& sampled);
  flatbuffers::Offset<wire::SequenceStep> write(const step& of, const outcome& o);
  message<wire::StepResult> write_result(const step& of, std::uint64_t compute_ns);
  step& open_step(const wire::StepPlan& plan);

  model_id id_;
  std::shared_ptr<ops::model> model_;
  std::uint32_t vocabulary_;
  std::uint64_t incarnation_ = 0;
  bool watched_ = false;  // the plan at hand wants log-probabilities of all that is sampled
  slot_pool slots_;
  std::unordered_map<std::uint64_t, std::shared_ptr<sequence>> sequences_;  // rows on their way hold them too
  std::deque<std::unique_ptr<step>> steps_;                                 // not collected, the oldest first
  std::uint64_t collected_ns_ = 0;                                          // when the last one was

  // The step at hand; kept for their memory.
  std::vector<std::int32_t> tokens_;                          // [T]
  std::vector<std::int32_t> positions_;                       // [T]
  std::vector<std::uint32_t> sequence_rows_;                  // [S+1]
  std::vector<std::span<const std::uint32_t>> block_tables_;  // [S]
  std::vector<std::uint32_t> logit_rows_;                     // [R]
  std::vector<std::uint32_t> state_slots_;                    // [S] if the model has recurrent state
  std::vector<std::int32_t> token_sources_;                   // [T]
  bool any_source_ = false;
  std::vector<ops::sample_request> sample_requests_;
  std::vector<ops::sampled_token> sampled_;
  std::vector<ops::sampled_token> scored_;
  std::vector<flatbuffers::Offset<wire::SequenceStep>> written_;
  std::vector<flatbuffers::Offset<wire::TokenLogprob>> logprobs_;
  flatbuffers::FlatBufferBuilder builder_;
};

}  // namespace troupe
