// Decides which sequences of one model compute what, step by step; batch_planner does the thinking.
//   hears    Submit       from tokenizer   the sender gets the sequence's tokens in TokenBatches, until an end
//            Abort        from tokenizer   no answer; nothing more is computed and blocks are free within one step, but what
//                         and gateway      waited for the tokenizer still comes. A Submit behind the Abort of its stream is
//                                          dropped: the gateway's comes directly, while the tokenizer may be busy
//            StepResult   from executor
//            ModelLoaded  from host        steps run from then on; told on to the cache-manager before its first lease
//            peer         from supervisor  "executor" and "cache_manager"; others are ignored
//            status       from gateway     answers SchedulerStatus
//            SwitchVersion, watch  from deployer  answers Switched, WatchReport
//            tick         from itself      while there are sequences: deadlines
//   sends    Lease, Release to cache_manager; StepPlan to executor, at most `plans_in_flight` unanswered; TokenBatch to each
//            tokenizer that has sequences in the step, as a request with an empty answer: one that has two unanswered gets
//            the tokens of the following steps in one batch as soon as it answers. Past `backlog_tokens` no step is planned
//   waits    never: while the model is not ready sequences wait in the queue, which is bounded
//   peers    a tokenizer that ends: its sequences are dropped. Executor or cache-manager end: all sequences go back to the
//            queue with their tokens and are computed again when the successor is there; their streams go on
//   restart  empty, as a new incarnation; tokenizers submit their open streams again with what was generated, the host
//            sends ModelLoaded again, executor and cache-manager drop what the former incarnation had
#pragma once

#include <caf/actor_system.hpp>
#include <chrono>

#include "actors/scheduler/batch_planner.hpp"
#include "actors/step_trace.hpp"
#include "actors/types.hpp"

namespace troupe {

struct scheduler_options {
  planner_options planner;  // incarnation is set by spawn_scheduler
  std::chrono::milliseconds tick{50};
  step_trace trace;
};

scheduler_actor spawn_scheduler(caf::actor_system& system, scheduler_options options);

}  // namespace troupe
