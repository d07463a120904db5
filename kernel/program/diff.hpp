// What changes from one Program to another, and therefore what a swap between them could keep.
//
// Weights are told apart by what they are in the checkpoint: two of another name with the same shape and the same spellings are
// one weight, renamed. Ops are compared layer by layer: those of the same kind on the same weights are the same op, which may have
// other attributes, shapes or inputs. Numbers of tensors, weights and ops mean nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/program/program.hpp"

namespace troupe::program {

// In all of these `before` belongs to the first Program and `after` to the second, in words; empty = it has none.
struct fact_change {
  std::string field;
  std::string before, after;
};

// What a swap can do about a weight, if both Programs run on one checkpoint.
enum class weight_fate : std::uint8_t {
  shared,   // declared alike: stays where it is
  perhaps,  // some of its spellings are declared by both: shared if the checkpoint uses one of these
  loaded,   // must be read from the checkpoint, and perhaps converted
  dropped   // the second Program has no use for it
};

struct weight_change {
  std::string name;  // in the second Program; in the first one if it is dropped
  weight_fate fate = weight_fate::shared;
  std::string what;  // "added", "removed", "renamed", "reshaped", "stored elsewhere", "declared otherwise"
  std::string before, after;
};

struct cache_change {
  std::string name;
  bool kept = false;
  std::string why;  // it is not kept, or must be looked at twice; empty = alike
  std::string before, after;
};

struct op_change {
  std::string scope;  // the layer: "model.layers.3"; empty = outside of layers
  std::string before, after;
};

struct difference {
  std::vector<fact_change> facts;
  std::vector<weight_change> weights;  // not those that are alike
  std::vector<cache_change> caches;    // all of both Programs
  std::vector<op_change> ops;
  std::vector<fact_change> probes;

  // Weights by their fate. Bytes count two per parameter, as checkpoints in bf16 do.
  struct share {
    std::uint64_t weights = 0;
    std::uint64_t bytes = 0;
  };
  share shared, perhaps, loaded, dropped;

  bool equal() const;
  // Every cache of either Program is kept: running sequences could go on with what they have cached.
  bool keeps_caches() const;
};

difference diff(const Program& before, const Program& after);

// For people: equal changes of several layers are folded, unless `fold_layers` is false. Ends in what a swap could keep.
std::string print(const difference& d, bool fold_layers = true);
// The same as one JSON object, for scripts; every layer by itself.
std::string print_json(const difference& d);

}  // namespace troupe::program
