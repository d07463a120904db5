// A native op of the module, ready to run. The interface to it is kernel/abi/troupe/module.h.
#pragma once

#include <troupe/module.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/native_ops.hpp"
#include "ops/device/execution.hpp"

namespace troupe::ops::cpu {

struct native_step {
  const troupe_native_op* op = nullptr;
  std::string where;  // "op 12 (native selective_scan, model.layers.1)"
  std::unique_ptr<program::native_use> use;
  std::vector<std::uint32_t> inputs, outputs;    // tensors
  std::vector<std::vector<const void*>> planes;  // per weight
  std::vector<std::size_t> states;               // where each begins in a slot, in floats
  // Of the step at hand.
  std::vector<std::vector<float*>> state_rows;  // per state, per sequence
  std::vector<float* const*> state_tables;      // per state
};

// Op `index` of a Program that check_native_ops() accepts. `states`: where its states begin in a slot, in floats.
native_step make_native_step(const program::Program& program, std::uint32_t index,
                             const program::native_ops& known,
                             const std::vector<checkpoint::bound_weight>& weights,
                             std::vector<std::size_t> states);

// What a native op sees of the step, beside its operands.
struct native_batch {
  std::size_t rows = 0;                          // T, or R for an op on logit rows
  std::span<const std::uint32_t> sequence_rows;  // [S+1]; empty for an op on logit rows
  std::span<const std::uint32_t> positions;      // [S] of each sequence's first row
  std::span<float* const> slots;                 // [S] each sequence's state; empty: the model has none
};

// `inputs`, `outputs`: where the operands stand. Error: internal, with the op and its own words: the step is void.
result<void> run_native(execution& on, native_step& s, const native_batch& batch,
                        std::span<void* const> inputs, std::span<void* const> outputs);

}  // namespace troupe::ops::cpu
