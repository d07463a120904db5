// A Program for people: facts, weights and where checkpoints have them, caches, then one line per op; layers that repeat are
// folded.
#pragma once

#include <string>

#include "kernel/program/program.hpp"

namespace troupe::program {

struct print_options {
  bool fold_layers = true;  // show one of several equal layers and say how many
  bool weights = true;
};
std::string print(const Program& program, const print_options& options = {});

// The same as one JSON object, for scripts.
std::string print_json(const Program& program);

}  // namespace troupe::program
