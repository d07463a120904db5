// Where a Program's tensors stand in one arena. Tensors whose lives do not meet share a place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace troupe::ops {

// One tensor: [rows of the step, width] or [logit rows, width], numbers of 4 bytes; needed from op `first` to
// op `last`.
struct tensor_life {
  bool logit_rows = false;
  std::size_t width = 0;
  std::size_t first = 0;
  std::size_t last = 0;
};

class memory_plan {
 public:
  // Ops write no tensor over their own inputs: a place is free again only after the op that read it last.
  static memory_plan sharing(std::span<const tensor_life> tensors);
  // Every tensor keeps its place until the next step: for probes.
  static memory_plan separate(std::span<const tensor_life> tensors);

  // Where each tensor begins, in numbers from the arena's start, for T and R. Returns the arena's size.
  // `offsets`: one per tensor; a multiple of 16.
  std::size_t place(std::size_t tokens, std::size_t logit_rows, std::span<std::size_t> offsets);

  std::size_t places() const { return places_.size(); }
  std::size_t place_of(std::size_t tensor) const { return place_of_[tensor]; }

 private:
  struct slot {
    bool logit_rows = false;
    std::size_t width = 0;
    std::size_t free_after = 0;  // op; while planning
  };
  std::size_t add(const tensor_life& tensor);

  std::vector<slot> places_;
  std::vector<std::uint32_t> place_of_;
  std::vector<std::size_t> starts_;  // of the places, in the last place()
};

}  // namespace troupe::ops
