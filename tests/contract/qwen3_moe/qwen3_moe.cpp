// Qwen3-MoE: a decoder whose heads are wider than hidden / heads and are normed one by one before the rotation; most layers have
// a mixture of experts, some a dense MLP.
//
// T tokens of the step  D hidden  H heads  K kv heads  Dh head size  E experts  F hidden size of an expert  V vocabulary
#include <algorithm>
#include <troupe/sdk/module.hpp>

namespace {

using namespace troupe::sdk;
using std::uint32_t;
using troupe::program::Partition;
using troupe::program::RouterNorm;

struct qwen_config {
  uint32_t vocab, hidden, layers, heads, kv_heads, head_dim, context;
  uint32_t mlp_hidden;                     // of dense layers
  uint32_t experts, top_k, expert_hidden;  // of the others
  uint32_t sparse_step;                    // every so many layers have experts
  std::vector<uint32_t> dense_layers;      // and these never
  RouterNorm norm;
  float norm_eps;
  rope_options rope;
  bool tied;  // the output uses the embedding's weight

  bool is_sparse(uint32_t layer) const {
    return experts > 0 && (layer + 1) % sparse_step == 0 &&
           std::find(dense_layers.begin(), dense_layers.end(), layer) == dense_layers.end();
  }
};

qwen_config read_config(const json& c) {
  qwen_config m;
  m.vocab = positive(c, "vocab_size");
  m.hidden = positive(c, "hidden_size");
  m.layers = count(c, "num_hidden_layers");
  m.heads = positive(c, "num_attention_heads");
  m.kv_heads = positive_or(c, "num_key_value_heads", m.heads);
  if (m.heads % m.kv_heads != 0) c.find("num_key_value_heads")->wrong("a divisor of num_attention_heads");
  m.head_dim = positive_or(c, "head_dim", m.hidden / m.heads);
  m.context = positive(c, "max_position_embeddings");
  m.mlp_hidden = positive(c, "intermediate_size");
  m.experts = count(c, c.find("num_experts") != nullptr ? "num_experts" : "num_local_experts");  // v4, v5
  m.top_k = positive(c, "num_experts_per_tok");
  if (m.top_k > m.experts) c.find("num_experts_per_tok")->wrong("at most the number of experts");
  m.expert_hidden = positive(c, "moe_intermediate_size");
  m.sparse_step = positive_or(c, "decoder_sparse_step", 1);
  if (const json* dense = c.find("mlp_only_layers")) m.dense_layers = dense->as<std::vector<uint32_t>>();
  m.norm = c.get_or<bool>("norm_topk_prob", false) ? RouterNorm::sum : RouterNorm::none;
  m.norm_eps = static_cast<float>(above_zero(c, "rms_norm_eps", 1e-6));
  m.rope = read_rope(c, m.head_dim);
  m.tied = c.get_or<bool>("tie_word_embeddings", false);
  require(c, "hidden_act", "silu");
  require(c, "attention_bias", false);
  require(c, "use_sliding_window", false);
  return m;
}

// h [T, D] -> [T, D]. Queries and keys are normed head by head, with one weight [Dh] for all heads.
tensor_ref attention(builder& b, const builder::scoped& layer, const qwen_config& c, tensor_ref h,
                     cache_ref cache, uint32_t i) {
  const std::uint64_t queries = std::uint64_t{c.heads} * c.head_dim,
                      keys = std::uint64_t{c.kv_heads} * c.head_dim;
  const weight_options rows = {.partition = Partition::rows}, columns = {.partition = Partition::columns};
  auto q = b.linear(h, layer.weight("self_attn.q_proj.weight", {queries, c.hidden}, rows));     // [T, H·Dh]
  auto k = b.linear(h, layer.weight("self_attn.k_proj.weight", {keys, c.hidden}, rows));        // [T, K·Dh]
  const auto v = b.linear(h, layer.weight("self_attn.v_proj.weight", {keys, c.hidden}, rows));  // [T, K·Dh]
  q = b.rms_norm_groups(q, layer.weight("self_attn.q_norm.weight", {c.head_dim}), c.norm_eps, c.head_dim);
  k = b.rms_norm_groups(k, layer.weight("self_attn.k_norm.weight", {c.head_dim}), c.norm_eps, c.head_dim);
  const auto out = b.attention(
      b.rope(q, c.rope), b.rope(k, c.rope), v, cache,
      {.heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .cache_layer = i});  // [T, H·Dh]
  return b.linear(out, layer.weight("self_attn.o_proj.weight", {c.hidden, queries}, columns));
}

// h [T, D] -> [T, D]
tensor_ref mlp(builder& b, const builder::scoped& layer, const qwen_config& c, tensor_ref h) {
  const weight_options rows = {.partition = Partition::rows}, columns = {.partition = Partition::columns};
  const auto gate = b.linear(h, layer.weight("mlp.gate_proj.weight", {c.mlp_hidden, c.hidden}, rows));
  const auto up = b.linear(h, layer.weight("mlp.up_proj.weight", {c.mlp_hidden, c.hidden}, rows));
  return b.linear(b.gated(gate, up), layer.weight("mlp.down_proj.weight", {c.hidden, c.mlp_hidden}, columns));
}

// h [T, D] -> [T, D]. One tensor per expert, as published, or stacked with gate and up in one, as transformers v5 has them.
tensor_ref experts(builder& b, const builder::scoped& layer, const qwen_config& c, tensor_ref h) {
  const uint32_t E = c.experts, F = c.expert_hidden, D = c.hidden;
  const auto stacked = [&](const char* name, const shape& dimensions, const char* each, const spelling& all) {
    return layer.weight(name, dimensions,
                        {.partition = Partition::experts, .spellings = {layer.per_expert(each, E), all}});
  };
  const auto gate = stacked("mlp.experts.gate", {E, F, D}, "mlp.experts.*.gate_proj.weight",
                            layer.part("mlp.experts.gate_up_proj", 1, 0, F));
  const auto up = stacked("mlp.experts.up", {E, F, D}, "mlp.experts.*.up_proj.weight",
                          layer.part("mlp.experts.gate_up_proj", 1, F, 2 * std::uint64_t{F}));
  const auto down = stacked("mlp.experts.down", {E, D, F}, "mlp.experts.*.down_proj.weight",
                            layer.stored("mlp.experts.down_proj"));
  const auto logits = b.linear(h, layer.weight("mlp.gate.weight", {E, D}));  // [T, E]
  b.probe("router." + layer.path("mlp.gate"), logits);
  return b.experts(h, b.router(logits, {.top_k = c.top_k, .norm = c.norm}), {gate, up, down});
}

void build(builder& b, const json& root) {
  const auto c = read_config(root);
  b.facts({.architecture = "Qwen3MoeForCausalLM",
           .vocabulary = c.vocab,
           .hidden = c.hidden,
           .layers = c.layers,
           .context_tokens = c.context,
           .bos_id = bos_id(root, c.vocab),
           .eos_ids = eos_ids(root, c.vocab)});
  const auto cache = b.kv_cache("kv", {.layers = c.layers, .kv_heads = c.kv_heads, .head_dim = c.head_dim});
  const auto table = b.weight("model.embed_tokens.weight", {c.vocab, c.hidden});
  auto x = b.embed(table);  // [T, D]
  for (uint32_t i = 0; i < c.layers; ++i) {
    b.probe("hidden_states." + std::to_string(i), x);
    const auto layer = b.scope("model.layers", i);
    auto h = b.rms_norm(x, layer.weight("input_layernorm.weight", {c.hidden}), c.norm_eps);
    x = b.add(x, attention(b, layer, c, h, cache, i));
    h = b.rms_norm(x, layer.weight("post_attention_layernorm.weight", {c.hidden}), c.norm_eps);
    x = b.add(x, c.is_sparse(i) ? experts(b, layer, c, h) : mlp(b, layer, c, h));
  }
  x = b.rms_norm(x, b.weight("model.norm.weight", {c.hidden}), c.norm_eps);
  b.probe("hidden_states." + std::to_string(c.layers), x);
  const auto head =
      c.tied ? table : b.weight("lm_head.weight", {c.vocab, c.hidden}, {.partition = Partition::rows});
  b.logits(b.linear(b.select_rows(x), head));  // [R, V]
}

}  // namespace

TROUPE_MODULE("qwen3_moe", "1.0.0", "Qwen3-MoE: normed heads, experts in most layers", build,
              "Qwen3MoeForCausalLM")
