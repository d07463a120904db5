// Jamba: a decoder most of whose layers are Mamba, some attention; behind each a gated MLP, in some layers a mixture of experts.
//
// T tokens of the step  D hidden  H heads  K kv heads  Dh head size  E experts  F hidden size of an MLP or expert  V vocabulary
// N channels of Mamba  S numbers of state per channel  R rank of the time step
#include <troupe/sdk/module.hpp>

#include "ops/causal_conv.hpp"
#include "ops/selective_scan.hpp"

namespace {

using namespace troupe::sdk;
using std::uint32_t;
using std::uint64_t;
using troupe::program::Partition;

struct jamba_config {
  uint32_t vocab, hidden, layers, heads, kv_heads, head_dim, experts, top_k, mlp_hidden, context;
  uint32_t state, taps, rank;  // of Mamba
  uint64_t channels;           // of Mamba
  layer_pattern attention, expert;
  bool conv_bias, tied;
  float norm_eps;
};

// A number, or "auto": a sixteenth of the hidden size.
uint32_t read_rank(const json& c, uint32_t hidden) {
  const json* rank = c.find("mamba_dt_rank");
  const bool automatic =
      rank == nullptr || (rank->type() == json::kind::string && rank->as<std::string>() == "auto");
  return automatic ? (hidden + 15) / 16 : positive(c, "mamba_dt_rank");
}

// The sizes that every published file names are required; other absent keys mean what they mean in the published reference code.
jamba_config read_config(const json& c) {
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
  m.attention = read_layer_pattern(c, "attn", {8, 4});
  m.expert = read_layer_pattern(c, "expert", {2, 1});
  m.channels = uint64_t{positive_or(c, "mamba_expand", 2)} * m.hidden;
  m.state = size_from_to(c, "mamba_d_state", 1, jamba::selective_scan::max_state, 16);
  m.taps = size_from_to(c, "mamba_d_conv", 2, jamba::causal_conv::max_taps, 4);
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

struct caches {
  cache_ref kv, columns, ssm;
  uint32_t attention_layers = 0, mamba_layers = 0;  // so far
};

caches make_caches(builder& b, const jamba_config& c) {
  const uint32_t attention = c.attention.count(c.layers), mamba = c.layers - attention;
  caches out;
  if (attention > 0)
    out.kv = b.kv_cache("kv", {.layers = attention, .kv_heads = c.kv_heads, .head_dim = c.head_dim});
  if (mamba == 0) return out;
  out.columns = b.recurrent_cache("columns", {.layers = mamba, .dimensions = {c.taps - 1, c.channels}});
  out.ssm = b.recurrent_cache("ssm", {.layers = mamba, .dimensions = {c.state, c.channels}});
  return out;
}

// x [T, N] -> [T, M] by a matrix under its own name
tensor_ref project(builder& b, const builder::scoped& layer, tensor_ref x, const char* name, uint64_t outputs,
                   Partition partition) {
  return b.linear(x, layer.weight(name, {outputs, b.columns(x)}, {.partition = partition}));
}

// h [T, D] -> [T, D]; no positions of any kind: Mamba tells the order of tokens
tensor_ref attention(builder& b, const builder::scoped& layer, const jamba_config& c, tensor_ref h,
                     caches& kept) {
  const uint64_t queries = uint64_t{c.heads} * c.head_dim, keys = uint64_t{c.kv_heads} * c.head_dim;
  const auto q = project(b, layer, h, "self_attn.q_proj.weight", queries, Partition::rows);  // [T, H·Dh]
  const auto k = project(b, layer, h, "self_attn.k_proj.weight", keys, Partition::rows);     // [T, K·Dh]
  const auto v = project(b, layer, h, "self_attn.v_proj.weight", keys, Partition::rows);     // [T, K·Dh]
  const auto out = b.attention(q, k, v, kept.kv,
                               {.heads = c.heads,
                                .kv_heads = c.kv_heads,
                                .head_dim = c.head_dim,
                                .cache_layer = kept.attention_layers++});  // [T, H·Dh]
  return project(b, layer, out, "self_attn.o_proj.weight", c.hidden, Partition::columns);
}

// h [T, D] -> [T, D]. Stored matrices that hold several are taken apart by rows: in_proj is u, z; x_proj is dt, B, C.
tensor_ref mamba(builder& b, const builder::scoped& layer, const jamba_config& c, tensor_ref h,
                 caches& kept) {
  const uint64_t N = c.channels, S = c.state, R = c.rank, K = c.taps;
  const auto rows_of = [&](const char* stored, const char* name, tensor_ref x, uint64_t begin,
                           uint64_t rows) {
    return b.linear(x, layer.weight(name, {rows, b.columns(x)},
                                    {.spellings = {layer.part(stored, 0, begin, begin + rows)}}));
  };
  const auto norm = [&](tensor_ref x, const char* name) {
    return b.rms_norm(x, layer.weight(name, {b.columns(x)}), c.norm_eps);
  };
  auto u = rows_of("mamba.in_proj.weight", "mamba.in_proj.u", h, 0, N);        // [T, N]
  const auto z = rows_of("mamba.in_proj.weight", "mamba.in_proj.z", h, N, N);  // [T, N]
  std::vector<weight_ref> conv = {layer.weight("mamba.conv1d.weight", {N, K},
                                               {.spellings = {layer.stored("mamba.conv1d.weight", {N, K})}})};
  if (c.conv_bias) conv.push_back(layer.weight("mamba.conv1d.bias", {N}));
  u = b.native<jamba::causal_conv>({u}, conv, {{kept.columns, kept.mamba_layers}})[0];

  auto dt = rows_of("mamba.x_proj.weight", "mamba.x_proj.dt", u, 0, R);          // [T, R]
  const auto B = rows_of("mamba.x_proj.weight", "mamba.x_proj.B", u, R, S);      // [T, S]
  const auto C = rows_of("mamba.x_proj.weight", "mamba.x_proj.C", u, R + S, S);  // [T, S]
  dt = norm(dt, "mamba.dt_layernorm.weight");
  dt = project(b, layer, dt, "mamba.dt_proj.weight", N, Partition::rows);  // [T, N]
  const auto y = b.native<jamba::selective_scan>(
      {u, dt, norm(B, "mamba.b_layernorm.weight"), norm(C, "mamba.c_layernorm.weight"), z},
      {layer.weight("mamba.A_log", {N, S}), layer.weight("mamba.D", {N}),
       layer.weight("mamba.dt_proj.bias", {N})},
      {{kept.ssm, kept.mamba_layers++}})[0];  // [T, N]
  return project(b, layer, y, "mamba.out_proj.weight", c.hidden, Partition::columns);
}

// h [T, D] -> [T, D]
tensor_ref mlp(builder& b, const builder::scoped& layer, const jamba_config& c, tensor_ref h) {
  const uint64_t F = c.mlp_hidden;
  const auto gate = project(b, layer, h, "feed_forward.gate_proj.weight", F, Partition::rows);  // [T, F]
  const auto up = project(b, layer, h, "feed_forward.up_proj.weight", F, Partition::rows);      // [T, F]
  return project(b, layer, b.gated(gate, up), "feed_forward.down_proj.weight", c.hidden, Partition::columns);
}

// h [T, D] -> [T, D]. The chosen experts' weights stay as the softmax over all experts gave them. Stored as one tensor per expert, as
// published, or stacked, as transformers v5 saves them.
tensor_ref experts(builder& b, const builder::scoped& layer, const jamba_config& c, tensor_ref h) {
  const uint64_t E = c.experts, F = c.mlp_hidden, D = c.hidden;
  const std::string all = "feed_forward.experts.";
  const auto matrices = [&](const std::string& name, const shape& dimensions, const spelling& stacked) {
    const auto published = layer.per_expert(all + "*." + name + "_proj.weight", c.experts);
    return layer.weight(all + name, dimensions,
                        {.partition = Partition::experts, .spellings = {published, stacked}});
  };
  const expert_weights w = {matrices("gate", {E, F, D}, layer.part(all + "gate_up_proj", 1, 0, F)),
                            matrices("up", {E, F, D}, layer.part(all + "gate_up_proj", 1, F, 2 * F)),
                            matrices("down", {E, D, F}, layer.stored(all + "down_proj"))};
  const auto logits = b.linear(h, layer.weight("feed_forward.router.weight", {E, D}));  // [T, E]
  b.probe("router." + layer.path("feed_forward.router"), logits);
  return b.experts(h, b.router(logits, {.top_k = c.top_k}), w);
}

void build(builder& b, const json& root) {
  const auto c = read_config(root);
  b.facts({.architecture = "JambaForCausalLM",
           .vocabulary = c.vocab,
           .hidden = c.hidden,
           .layers = c.layers,
           .context_tokens = c.context,
           .bos_id = bos_id(root, c.vocab),
           .eos_ids = eos_ids(root, c.vocab)});
  auto kept = make_caches(b, c);
  const auto table = b.weight("model.embed_tokens.weight", {c.vocab, c.hidden});
  auto x = b.embed(table);  // [T, D]
  for (uint32_t i = 0; i < c.layers; ++i) {
    b.probe("hidden_states." + std::to_string(i), x);
    const auto layer = b.scope("model.layers", i);
    auto h = b.rms_norm(x, layer.weight("input_layernorm.weight", {c.hidden}), c.norm_eps);
    x = b.add(x, c.attention.has(i) ? attention(b, layer, c, h, kept) : mamba(b, layer, c, h, kept));
    h = b.rms_norm(x, layer.weight("pre_ff_layernorm.weight", {c.hidden}), c.norm_eps);
    x = b.add(x, c.experts > 1 && c.expert.has(i) ? experts(b, layer, c, h) : mlp(b, layer, c, h));
  }
  x = b.rms_norm(x, b.weight("model.final_layernorm.weight", {c.hidden}), c.norm_eps);
  b.probe("hidden_states." + std::to_string(c.layers), x);
  const auto head =
      c.tied ? table : b.weight("lm_head.weight", {c.vocab, c.hidden}, {.partition = Partition::rows});
  b.logits(b.linear(b.select_rows(x), head));  // [R, V]
}

using native_ops = native_op_list<jamba::causal_conv, jamba::selective_scan>;

}  // namespace

TROUPE_MODULE_WITH_NATIVE_OPS(
    "jamba", "1.0.0",
    "Jamba v0.1, 1.5 and their kin: Mamba and attention layers, every second one with experts", build,
    native_ops, "JambaForCausalLM")
