// Recurrent state of sequences: one slot for each, all in one anonymous mapping, given by the system page by page when first
// written. Who has which slot is the executor's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernel/base/result.hpp"

namespace troupe::ops::cpu {

class state_slots {
 public:
  // `floats`: of one slot; 0 = the model has no state, nothing is mapped. Error: bad_config (the system refuses that much
  // address space).
  static result<std::unique_ptr<state_slots>> open(std::uint32_t slots, std::size_t floats);
  ~state_slots();
  state_slots(const state_slots&) = delete;
  state_slots& operator=(const state_slots&) = delete;

  std::uint32_t slots() const { return slots_; }
  float* slot(std::size_t i) const { return data_ + i * stride_; }  // aligned to 64 bytes
  void clear(std::size_t i);

 private:
  state_slots() = default;

  float* data_ = nullptr;
  std::size_t floats_ = 0, stride_ = 0;
  std::uint32_t slots_ = 0;
};

}  // namespace troupe::ops::cpu
