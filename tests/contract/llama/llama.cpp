// Llama: a dense decoder of equal layers, each attention and then a gated MLP, both behind an RMSNorm and added to the residual
// stream.
//
// T tokens of the step  D hidden  H heads  K kv heads  Dh head size  F hidden size of the MLP  V vocabulary
#include <troupe/sdk/module.hpp>

namespace {

using namespace troupe::sdk;
using std::uint32_t;
using troupe::program::Partition;

struct model_config {
  uint32_t vocab, hidden, layers, heads, kv_heads, head_dim, mlp_hidden, context;
  float norm_eps;
  rope_options rope;
  bool tied;  // the output uses the embedding's weight
};

// Every key that changes what is computed is read, or refused where it asks for something that build() does not do.
model_config read_config(const json& c) {
  model_config m;
  m.vocab = positive(c, "vocab_size");
  m.hidden = positive(c, "hidden_size");
  m.layers = count(c, "num_hidden_layers");
  m.heads = positive(c, "num_attention_heads");
  m.kv_heads = positive_or(c, "num_key_value_heads", m.heads);
  if (m.heads % m.kv_heads != 0) c.find("num_key_value_heads")->wrong("a divisor of num_attention_heads");
  m.head_dim = positive_or(c, "head_dim", m.hidden / m.heads);
  if (!c.find("head_dim") && m.hidden % m.heads != 0)
    c.find("num_attention_heads")->wrong("a divisor of hidden_size");
  m.mlp_hidden = positive(c, "intermediate_size");
  m.context = positive(c, "max_position_embeddings");
  m.norm_eps = static_cast<float>(above_zero(c, "rms_norm_eps", 1e-6));
  m.rope = read_rope(c, m.head_dim);
  m.tied = c.get_or<bool>("tie_word_embeddings", false);
  require(c, "hidden_act", "silu");
  require(c, "attention_bias", false);
  require(c, "mlp_bias", false);
  return m;
}

// h [T, D] -> [T, D]
tensor_ref attention(builder& b, const builder::scoped& layer, const model_config& c, tensor_ref h,
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

// h [T, D] -> [T, D]
tensor_ref mlp(builder& b, const builder::scoped& layer, const model_config& c, tensor_ref h) {
  const weight_options rows = {.partition = Partition::rows}, columns = {.partition = Partition::columns};
  const auto gate =
      b.linear(h, layer.weight("mlp.gate_proj.weight", {c.mlp_hidden, c.hidden}, rows));            // [T, F]
  const auto up = b.linear(h, layer.weight("mlp.up_proj.weight", {c.mlp_hidden, c.hidden}, rows));  // [T, F]
  return b.linear(b.gated(gate, up), layer.weight("mlp.down_proj.weight", {c.hidden, c.mlp_hidden}, columns));
}

void build(builder& b, const json& root) {
  const auto c = read_config(root);
  b.facts({.architecture = "LlamaForCausalLM",
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
    x = b.add(x, mlp(b, layer, c, h));
  }
  x = b.rms_norm(x, b.weight("model.norm.weight", {c.hidden}), c.norm_eps);
  b.probe("hidden_states." + std::to_string(c.layers), x);
  const auto head =
      c.tied ? table : b.weight("lm_head.weight", {c.vocab, c.hidden}, {.partition = Partition::rows});
  b.logits(b.linear(b.select_rows(x), head));  // [R, V]
}

}  // namespace

TROUPE_MODULE("llama", "1.0.0", "Llama 2, 3 and their kin: dense decoders", build, "LlamaForCausalLM")
