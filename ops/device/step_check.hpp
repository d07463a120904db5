// What every backend demands of a batch before it computes anything: that it does not contradict itself, the model or the pool.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/device/backend.hpp"

namespace troupe::ops {

class step_check {
 public:
  struct limits {
    std::size_t vocabulary = 0;
    std::uint32_t block_tokens = 0;  // 0 = the model has no paged cache
    std::uint32_t blocks = 0;        // of the pool
    bool states = false;             // the model has recurrent state
    std::uint32_t state_slots = 0;
  };
  explicit step_check(const limits& l) : limits_(l), next_positions_(l.state_slots) {}

  // Error: internal: a bug of the caller, found before any write.
  result<void> check(const step_batch& batch) const;
  // Notes where the states of a step that has passed stand behind it.
  void enter(const step_batch& batch);
  // For measurements: the state in that slot is taken to stand behind `position - 1`, whatever it holds.
  void assume(std::uint32_t slot, std::uint32_t position) {
    if (slot < next_positions_.size()) next_positions_[slot] = position;
  }
  // Of the step before: what token_sources may name.
  void sampled(std::size_t requests) { sampled_before_ = requests; }

 private:
  result<void> check_tables(const step_batch& batch) const;
  result<void> check_slots(const step_batch& batch) const;

  limits limits_;
  std::vector<std::uint32_t> next_positions_;  // per slot: the position that its state waits for
  std::size_t sampled_before_ = 0;
};

}  // namespace troupe::ops
