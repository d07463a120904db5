// One worker of a model's tokenizer pool: text to tokens on the way in, tokens to text on the way out. A stream stays with
// the worker that admitted it.
//   hears    admit (stream, request, received_ns)  from gateway    Generate, Tokenize or Detokenize; replies go to the
//                                                                  asker as outgoing_batch, exactly one of them `last`; a
//                                                                  Generate whose deadline has passed is not begun
//            abandon (stream, why)                 from gateway    ends it: cancelled with a Final, others with an Error
//            TokenBatch                            from scheduler  one outgoing_batch to the gateway per TokenBatch
//            peer                                  from supervisor "scheduler/<m>"
//            redirect (m, scheduler)               from deployer   its streams go on with that instance's scheduler, by the same
//                                                                  tokenizer: submitted there with what was generated
//   tells    Submit, Abort                         to scheduler    Abort also when a stop string was found
//   owns     its streams: decoders, stop matchers and what they have generated so far
//   waits    never, but encoding megabytes takes its time: hence a thread of its own
//   death    its streams are lost: the gateway ends them with a typed error and has the scheduler drop them
//   others   a new scheduler gets every live stream again, with its tokens; a new gateway finds its own way to end what
//            the old one had open (abandon). TokenBatches of a scheduler that was replaced are ignored.
#pragma once

#include <caf/actor_system.hpp>
#include <cstdint>
#include <functional>

#include "actors/host/prepared_model.hpp"
#include "actors/tokenizer/admission.hpp"
#include "actors/types.hpp"

namespace troupe {

struct tokenizer_options {
  prepared_model_ptr model;
  std::uint32_t worker = 0;  // number in the pool, for logs
  text::admission_limits limits;
  std::function<std::uint64_t()> draw_seed;  // empty = from std::random_device; called by this worker only
  std::function<std::uint64_t()> now_ns;     // empty = steady clock
  bool detached = true;
};

tokenizer_actor spawn_tokenizer(caf::actor_system& system, tokenizer_options options);

text::text_model text_model_of(const prepared_model& model);

}  // namespace troupe
