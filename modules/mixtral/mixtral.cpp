// Mixtral: a decoder of equal layers, each attention and then a mixture of experts, both behind an RMSNorm and added to
// the residual stream.
//
// T tokens of the step  D hidden  H heads  K kv heads  Dh head size  E experts  F expert hidden  V vocabulary
#include <troupe/sdk/module.hpp>

namespace {

using namespace troupe::sdk;
using std::uint32_t;
using troupe::program::Partition;
using troupe::program::RouterNorm;

struct mixtral_config {
  uint32_t vocab, hidden, layers, heads, kv_heads, head_dim, experts, top_k, expert_hidden, context;
  float norm_eps;
  rope_options rope;
  bool tied;  // the output uses the embedding's weight
};

// sliding_window is not read: Mixtral attends to all positions of its context. Its published files say null; the 4096 of early
// ones was left over from Mistral 7B.
mixtral_config read_config(const json& c) {
  mixtral_config m;
  m.vocab = positive(c, "vocab_size");
  m.hidden = positive(c, "hidden_size");
  m.layers = count(c, "num_hidden_layers");
  m.heads = positive(c, "num_attention_heads");
  m.kv_heads = positive_or(c, "num_key_value_heads", m.heads);
  m.head_dim = positive_or(c, "head_dim", m.hidden / m.heads);
  m.experts = count(c, "num_local_experts");
  m.top_k = positive(c, "num_experts_per_tok");
  m.expert_hidden = positive(c, "intermediate_size");
  m.context = positive(c, "max_position_embeddings");
  m.norm_eps = static_cast<float>(above_zero(c, "rms_norm_eps", 1e-5));
  m.tied = c.get_or<bool>("tie_word_embeddings", false);
  if (!c.find("head_dim") && m.hidden % m.heads != 0)
    c.find("num_attention_heads")->wrong("a divisor of hidden_size");
  if (m.heads % m.kv_heads != 0) c.find("num_key_value_heads")->wrong("a divisor of num_attention_heads");
  if (m.top_k > m.experts) c.find("num_experts_per_tok")->wrong("at most num_local_experts");
  m.rope = read_rope(c, m.head_dim, 1e6);
  require(c, "hidden_act", "silu");
  return m;
}

// h [T, D] -> [T, D]
tensor_ref attention(builder& b, const builder::scoped& layer, const mixtral_config& c, tensor_ref h,
                     cache_ref cache, uint32_t i) {
  const std::uint64_t queries = std::uint64_t{c.heads} * c.head_dim,
                      keys = std::uint64_t{c.kv_heads} * c.head_dim;
  const weight_options rows = {.partition = Partition::rows}, columns = {.partition = Partition::columns};
  const auto q =
      b.linear(h, layer.weight("self_attn.q_proj.weight", {queries, c.hidden}, rows));          // [T, H·Dh]
  const auto k = b.linear(h, layer.weight("self_attn.k_proj.weight", {keys, c.hidden}, rows));  // [T, K·Dh]
  const auto v = b.linear(h, layer.weight("self_attn.v_proj.weight", {keys, c.hidden}, rows));  // [T, K·Dh]
  const auto out = b.attention(
      b.rope(q, c.rope), b.rope(k, c.rope), v, cache,
      {.heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .cache_layer = i});  // [T, H·Dh]
  return b.linear(out, layer.weight("self_attn.o_proj.weight", {c.hidden, queries}, columns));
}

// h [T, D] -> [T, D]. Two spellings: w1 (gate), w3 (up), w2 (down) per expert, as published; and stacked, gate and up in one
// tensor of [E, 2F, D], as transformers v5 saves them.
tensor_ref experts(builder& b, const builder::scoped& layer, const mixtral_config& c, tensor_ref h) {
  const auto stacked_over = [&](const char* name, const shape& dimensions, const char* per_expert,
                                const spelling& stacked) {
    return layer.weight(
        name, dimensions,
        {.partition = Partition::experts, .spellings = {layer.per_expert(per_expert, c.experts), stacked}});
  };
  const uint32_t E = c.experts, F = c.expert_hidden, D = c.hidden;
  const auto router = layer.weight(
      "mlp.gate.weight", {E, D},
      {.spellings = {layer.stored("block_sparse_moe.gate.weight"), layer.stored("mlp.gate.weight")}});
  const auto gate = stacked_over("mlp.experts.gate", {E, F, D}, "block_sparse_moe.experts.*.w1.weight",
                                 layer.part("mlp.experts.gate_up_proj", 1, 0, F));
  const auto up = stacked_over("mlp.experts.up", {E, F, D}, "block_sparse_moe.experts.*.w3.weight",
                               layer.part("mlp.experts.gate_up_proj", 1, F, 2 * std::uint64_t{F}));
  const auto down = stacked_over("mlp.experts.down", {E, D, F}, "block_sparse_moe.experts.*.w2.weight",
                                 layer.stored("mlp.experts.down_proj"));
  const auto logits = b.linear(h, router);  // [T, E]
  b.probe("router." + layer.path("mlp.gate"), logits);
  const auto chosen = b.router(logits, {.top_k = c.top_k, .norm = RouterNorm::sum});  // [T, k] twice
  return b.experts(h, chosen, {gate, up, down});
}

void build(builder& b, const json& root) {
  const auto c = read_config(root);
  b.facts({.architecture = "MixtralForCausalLM",
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
    x = b.add(x, experts(b, layer, c, h));
  }
  x = b.rms_norm(x, b.weight("model.norm.weight", {c.hidden}), c.norm_eps);
  b.probe("hidden_states." + std::to_string(c.layers), x);
  const auto head =
      c.tied ? table : b.weight("lm_head.weight", {c.vocab, c.hidden}, {.partition = Partition::rows});
  b.logits(b.linear(b.select_rows(x), head));  // [R, V]
}

}  // namespace

TROUPE_MODULE("mixtral", "1.0.0",
              "Mixtral 8x7B, 8x22B and their kin: every layer a softmax-routed mixture of experts", build,
              "MixtralForCausalLM")
