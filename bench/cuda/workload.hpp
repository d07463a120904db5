// What a step of a Program must do at least: bytes that it has to read and write, and operations. A bound, not a count of what is done:
// activations, launches and sampling are free.
#pragma once

#include <cstdint>
#include <span>

#include "bench/cuda/ceilings.hpp"
#include "kernel/program/program.hpp"

namespace troupe::bench {

struct step_shape {
  double tokens = 0, sequences = 0, logit_rows = 0;
  double seen = 0;  // positions that the tokens attend to, in sum
  double read = 0;  // positions whose keys and values have to be read: those of each sequence once
};

struct workload {
  double experts = 0, linear = 0, other = 0;  // bytes of weights
  double cache = 0, state = 0;                // bytes read and written
  double operations = 0;

  double bytes() const { return experts + linear + other + cache + state; }
  double seconds(const ceilings& on) const;
  bool by_memory(const ceilings& on) const { return bytes() / on.reads >= operations / on.operations; }
};

// `chosen`: for each router of the Program how many experts the step's tokens chose; they are read, the others not.
workload work_of(const program::Program& program, bool int8, const step_shape& step,
                 std::span<const double> chosen);

// Bytes of all weights as the CUDA backend keeps them.
double weight_bytes(const program::Program& program, bool int8);

}  // namespace troupe::bench
