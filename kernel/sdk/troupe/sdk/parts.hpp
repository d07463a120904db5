// The small structs that a module fills in and hands to the builder. docs/notation.md names the letters: T tokens of the
// step, D hidden, H query heads, K key/value heads, Dh head size, E experts, k experts per token, F expert hidden size.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "troupe/schemas/program_generated.h"

namespace troupe::sdk {

using shape = std::vector<std::uint64_t>;

// Of the schema that this SDK writes.
inline constexpr std::uint16_t program_version_minor = 1;

// Handles into the builder that made them; copied freely.
struct tensor_ref {
  std::uint32_t id = 0;
};
struct weight_ref {
  std::uint32_t id = 0;
};
struct cache_ref {
  std::int32_t id = -1;
};

struct model_facts {
  std::string architecture;      // as in config.json's "architectures"
  std::uint32_t vocabulary = 0;  // V
  std::uint32_t hidden = 0;      // D
  std::uint32_t layers = 0;
  std::uint32_t context_tokens = 0;   // positions that the model was made for
  std::int32_t bos_id = -1;           // -1 = none
  std::vector<std::int32_t> eos_ids;  // may be empty
  std::string chat_template;          // for checkpoints that bring none; empty = none
};

// One stored tensor, or a part of it. Steps are applied in the order of the fields.
struct source {
  std::string tensor;            // name in the checkpoint
  shape reshaped;                // empty = as stored
  std::int32_t slice_axis = -1;  // -1 = whole
  std::uint64_t slice_begin = 0;
  std::uint64_t slice_end = 0;
  bool transposed = false;  // swaps the last two dimensions
};

// One way in which checkpoints store a weight.
struct spelling {
  program::Combine combine = program::Combine::single;  // stack: new axis 0; concat: along axis 0
  std::vector<source> sources;
};

struct weight_options {
  program::Partition partition = program::Partition::replicate;  // how it may be split over devices
  std::vector<spelling> spellings;  // tried in order; empty = one tensor of the weight's own name
};

struct kv_cache_options {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;  // K
  std::uint32_t head_dim = 0;  // Dh
  std::uint32_t window = 0;    // attend to that many last positions; 0 = all
};

struct rope_options {
  std::uint32_t head_dim = 0;    // Dh
  std::uint32_t rotary_dim = 0;  // leading dimensions of each head that rotate; 0 = head_dim
  double theta = 10000;
  program::RopeLayout layout = program::RopeLayout::half;
  std::vector<float>
      frequencies;      // [rotary/2] radians per position of each pair; empty = theta^(-2j / rotary)
  float amplitude = 1;  // cosines and sines are multiplied by it
};

struct attention_options {
  std::uint32_t heads = 0;        // H
  std::uint32_t kv_heads = 0;     // K
  std::uint32_t head_dim = 0;     // Dh
  float scale = 0;                // 0 = 1 / sqrt(Dh)
  std::uint32_t cache_layer = 0;  // each layer of a cache is written by exactly one attention
  float soft_cap = 0;             // a score s becomes soft_cap · tanh(s / soft_cap); 0 = stays
};

struct router_options {
  std::uint32_t top_k = 1;  // k
  program::RouterScore score = program::RouterScore::softmax;
  program::RouterNorm norm = program::RouterNorm::none;  // sum: chosen weights w are divided by (Σ w^p)^(1/p)
  float norm_power = 1;                                  // p; 1 = their sum
  float scale = 1;                                       // the chosen weights are multiplied by it at the end
};

// What a router answers.
struct routing {
  tensor_ref weights;  // [T, k]
  tensor_ref experts;  // [T, k] ids
};

// State of native ops: one tensor of `dimensions` per layer and sequence, f32, zeros when the sequence begins.
struct recurrent_cache_options {
  std::uint32_t layers = 0;
  shape dimensions;  // 1 to 4
};

// One layer of a recurrent cache; used by exactly one op.
struct state_ref {
  cache_ref cache;
  std::uint32_t layer = 0;
};

// A named number of a native op.
struct attribute {
  std::string name;
  double value = 0;
};

// Stacked over the experts.
struct expert_weights {
  weight_ref gate;  // [E, F, D]
  weight_ref up;    // [E, F, D]
  weight_ref down;  // [E, D, F]
};

}  // namespace troupe::sdk
