// Whether a model fits on a device, and what would.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kernel/base/result.hpp"

namespace troupe::ops {

// Bytes of a device by what they are for.
struct room_plan {
  std::uint64_t device = 0;       // that nobody else has, the cache included
  std::uint64_t weights = 0;      //
  std::uint64_t cache = 0;        // cache.memory; taken already
  std::uint64_t states = 0;       // recurrent state of scheduler.max_sequences sequences
  std::uint64_t activations = 0;  // of the largest step: tensors, inputs, workspaces, choices
  std::uint64_t graphs = 0;       // captured
  std::uint64_t reserve = 0;      // what the driver takes, buffers for loading

  std::uint64_t total() const { return weights + cache + states + activations + graphs + reserve; }
  bool fits() const { return total() <= device; }
};

// What could be less.
struct room_choices {
  std::uint64_t int8_weights = 0;    // bytes of the weights as int8; 0 = they are, or the model allows none
  std::uint64_t token_bytes = 0;     // of the cache for one position; 0 = the model keeps none
  std::uint64_t sequences = 0;       // scheduler.max_sequences
  std::uint64_t sequence_bytes = 0;  // of states and activations for each of them
};

// "weights 43.5GiB, cache 20GiB, states 0B, activations 1.1GiB, graphs 12MiB, reserve 256MiB: 65GiB of 78GiB"
std::string plan_text(const room_plan& plan);

// Error: bad_config: by how much `model` does not fit, the plan, and each of cache.memory (with the context that it holds), device.weights
// and scheduler.max_sequences that would make it fit, alone or, if none does, together.
result<void> check_room(std::string_view model, const room_plan& plan, const room_choices& choices);

}  // namespace troupe::ops
