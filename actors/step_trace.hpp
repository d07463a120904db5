// Where a step is on its way, for benchmarks: empty = not asked for. Called on the thread of the actor that is named.
#pragma once

#include <cstdint>
#include <functional>

namespace troupe {

enum class hop {
  plan_begun,    // scheduler: begins to build the plan of `step`
  plan_sent,     // scheduler
  plan_taken,    // executor: takes the plan out of its mailbox
  result_sent,   // executor
  result_taken,  // scheduler
  tokens_told,  // scheduler: the step's tokens are on their way to the tokenizers, or wait for one that is behind
  batch_sent,     // scheduler: a batch of tokens to a tokenizer; step = its running number
  leases_asked,   // scheduler; step = number of the lease
  leases_granted  // scheduler
};

using step_trace = std::function<void(hop where, std::uint64_t step)>;

}  // namespace troupe
