// A Program's ops by layer: runs of ops whose scopes share their first number ("model.layers.3.mlp" belongs
// to "model.layers.3"), and which of these runs are alike.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/program/program.hpp"

namespace troupe::program {

struct op_run {
  std::string scope;        // "model.layers.3"; empty for ops outside of layers
  std::uint32_t first = 0;  // op
  std::uint32_t count = 0;  // ops of one layer
  std::uint32_t alike = 1;  // layers that follow with the same ops, this one included
  std::string last_scope;   // of the last of them
};
std::vector<op_run> outline(const Program& program, bool fold_layers);

// "model.layers.3.mlp.gate" -> "model.layers.3"; empty if no component is a number.
std::string_view layer_scope(std::string_view scope);

// "model.layers.3.mlp.gate" -> "model.layers.*.mlp.gate"; unchanged if no component is a number.
std::string without_layer(std::string_view name);

// "paged_kv, 6 layers, 2 heads x 32", "recurrent, 7 layers, [8192, 16], f32"
std::string cache_text(const Cache& cache);

// Where a weight stands in a checkpoint. With `fold_layers` the layer's number becomes *.
// "model.layers.3.gate_up_proj [0 to 128 of axis 1], transposed"
std::string source_text(const Source& source, bool fold_layers);
// "stack of 8: model.layers.*.experts.0.w1.weight to model.layers.*.experts.7.w1.weight"
std::string spelling_text(const Spelling& spelling, bool fold_layers);

// Attributes of an op, in words: "heads 8, kv_heads 2"; without the cache layer, which differs between layers.
// Ops of equal kind and text have equal attributes.
std::string attributes(const Program& program, const Op& op);

}  // namespace troupe::program
