// What config.json says of a Jamba checkpoint. The sizes that every checkpoint names are required; other absent keys mean what they
// mean in the published reference code.
#pragma once

#include <cstdint>
#include <string>
#include <troupe/sdk/config.hpp>

namespace jamba {

using namespace troupe::sdk;
using std::uint32_t;
using std::uint64_t;

// Layers i with i % period == offset.
struct layer_pattern {
  uint32_t period, offset;
  bool has(uint32_t layer) const { return layer % period == offset; }
};

struct jamba_config {
  uint32_t vocab, hidden, layers, heads, kv_heads, head_dim, experts, top_k, mlp_hidden, context;
  uint32_t state, taps, rank;  // of Mamba
  uint64_t channels;           // of Mamba
  layer_pattern attention, expert;
  bool conv_bias, tied;
  float norm_eps;
};

inline layer_pattern read_pattern(const json& c, const std::string& kind, layer_pattern absent) {
  const std::string period_key = kind + "_layer_period", offset_key = kind + "_layer_offset";
  const layer_pattern p = {positive_or(c, period_key.c_str(), absent.period),
                           c.get_or<uint32_t>(offset_key.c_str(), absent.offset)};
  if (p.offset < p.period) return p;
  throw config_error(offset_key + ": expected a number below " + period_key + " " + std::to_string(p.period) +
                     ", found " + std::to_string(p.offset));
}

// A number, or "auto": a sixteenth of the hidden size.
inline uint32_t read_rank(const json& c, uint32_t hidden) {
  const json* rank = c.find("mamba_dt_rank");
  const bool automatic =
      rank == nullptr || (rank->type() == json::kind::string && rank->as<std::string>() == "auto");
  return automatic ? (hidden + 15) / 16 : positive(c, "mamba_dt_rank");
}

inline jamba_config read_config(const json& c) {
  jamba_config m;
  m.vocab = positive(c, "vocab_size");
  m.hidden = positive(c, "hidden_size");
  m.layers = count(c, "num_hidden_layers");
  m.heads = positive(c, "num_attention_heads");
  m.kv_heads = positive_or(c, "num_key_value_heads", 8);
  m.head_dim = positive_or(c, "head_dim", m.hidden / m.heads);
  m.experts = count_or(c, "num_experts", 16);
  m.top_k = positive_or(c, "num_experts_per_tok", 2);
  m.mlp_hidden = positive(c, "intermediate_size");
  m.context = positive_or(c, "max_position_embeddings", 262144);
  m.attention = read_pattern(c, "attn", {8, 4});
  m.expert = read_pattern(c, "expert", {2, 1});
  m.channels = uint64_t{positive_or(c, "mamba_expand", 2)} * m.hidden;
  m.state = positive_or(c, "mamba_d_state", 16);
  m.taps = positive_or(c, "mamba_d_conv", 4);
  m.rank = read_rank(c, m.hidden);
  m.conv_bias = c.get_or<bool>("mamba_conv_bias", true);
  m.tied = c.get_or<bool>("tie_word_embeddings", false);
  m.norm_eps = static_cast<float>(above_zero(c, "rms_norm_eps", 1e-6));
  if (!c.find("head_dim") && m.hidden % m.heads != 0)
    c.find("num_attention_heads")->wrong("a divisor of hidden_size");
  if (m.heads % m.kv_heads != 0)
    throw config_error("num_key_value_heads: expected a divisor of num_attention_heads");
  if (m.experts > 1 && m.top_k > m.experts)
    throw config_error("num_experts_per_tok: expected at most num_experts");
  if (c.find("sliding_window")) throw unsupported_error("sliding_window: expected null");
  require(c, "mamba_proj_bias", false);
  require(c, "hidden_act", "silu");
  return m;
}

}  // namespace jamba
