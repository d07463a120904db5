// A Program in memory: verified bytes, and what can be said about it.
// Schema: schemas/program.fbs. Printing: print.hpp.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernel/base/result.hpp"
#include "troupe/schemas/program_generated.h"

namespace troupe::program {

// Bytes that have passed verify(). Immutable; copies share the bytes; any thread.
class verified_program {
 public:
  const Program* operator->() const { return GetProgram(bytes_->data()); }
  const Program& operator*() const { return *GetProgram(bytes_->data()); }
  std::span<const std::uint8_t> bytes() const { return *bytes_; }

 private:
  friend result<verified_program> verify(std::span<const std::uint8_t> bytes);
  explicit verified_program(std::shared_ptr<const std::vector<std::uint8_t>> bytes)
      : bytes_(std::move(bytes)) {}
  std::shared_ptr<const std::vector<std::uint8_t>> bytes_;
};

// Checks structure (FlatBuffers) and meaning: every id, shape, dtype, bound, attribute and cache use; each tensor defined once and
// before its use; each cache layer written by exactly one op. Native ops as far as that goes without their module;
// check_native_ops() (native_ops.hpp) asks it. Takes time in proportion to the bytes, whatever they share. Copies them. Error:
// bad_program, with the op ("op 12 (attention, model.layers.1): ...") and what was expected and found.
result<verified_program> verify(std::span<const std::uint8_t> bytes);

// `active`: of the matrices that one token is multiplied with: top_k of the experts, the output in, the embedding row out.
struct parameter_counts {
  std::uint64_t total = 0;
  std::uint64_t active = 0;
};
parameter_counts count_parameters(const Program& program);

// Bytes of paged K/V per token over all caches and layers, at `element_bytes` per number.
std::uint64_t kv_bytes_per_token(const Program& program, std::uint32_t element_bytes);

// Bytes of recurrent state (f32) that one sequence keeps, over all caches and layers.
std::uint64_t state_bytes_per_sequence(const Program& program);

// Bytes per element; 0 for none.
std::uint32_t size_of(DType type);

}  // namespace troupe::program
