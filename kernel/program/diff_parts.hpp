// The steps of diff().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/program/diff.hpp"

namespace troupe::program {

// For each weight of both Programs a number that the two share if it is the same weight.
struct weight_pairs {
  std::vector<std::uint32_t> before, after;
};
// Fills `weights` and the shares.
weight_pairs diff_weights(const Program& before, const Program& after, difference& out);

// Fills `ops` and `probes`.
void diff_ops(const Program& before, const Program& after, const weight_pairs& weights, difference& out);

}  // namespace troupe::program
