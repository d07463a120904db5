// A dense decoder: a line of equal layers, each attention and then a gated MLP, both behind an RMSNorm and added to the residual
// stream. A module is a compiler: build() gets config.json and writes down which weights there are and what is computed
// from them. Nothing here runs when tokens are generated.
//
// T tokens of the step  D hidden  H heads  Dh head size  F hidden size of the MLP  V vocabulary
#include <troupe/sdk/module.hpp>

namespace {

using namespace troupe::sdk;
using std::uint32_t;

struct model_config {
  uint32_t vocab, hidden, layers, heads, head_dim, mlp_hidden, context;
  float norm_eps;
  rope_options rope;
};

// Every key that changes what is computed is read, or refused where it asks for something that build() does not do.
model_config read_config(const json& c) {
  model_config m;
  m.vocab = positive(c, "vocab_size");
  m.hidden = positive(c, "hidden_size");
  m.layers = count(c, "num_hidden_layers");
  m.heads = positive(c, "num_attention_heads");
  m.mlp_hidden = positive(c, "intermediate_size");
  m.context = positive(c, "max_position_embeddings");
  m.norm_eps = static_cast<float>(above_zero(c, "rms_norm_eps", 1e-6));
  if (m.hidden % (std::uint64_t{2} * m.heads) != 0)
    c.find("num_attention_heads")->wrong("a number by which hidden_size gives an even head size");
  m.head_dim = m.hidden / m.heads;
  m.rope = read_rope(c, m.head_dim);
  require(c, "hidden_act", "silu");
  return m;
}

// h [T, D] -> [T, D]
tensor_ref attention(builder& b, const builder::scoped& layer, const model_config& c, tensor_ref h,
                     cache_ref cache, uint32_t i) {
  const auto q = b.linear(h, layer.weight("self_attn.q_proj.weight", {c.hidden, c.hidden}));  // [T, H·Dh]
  const auto k = b.linear(h, layer.weight("self_attn.k_proj.weight", {c.hidden, c.hidden}));  // [T, H·Dh]
  const auto v = b.linear(h, layer.weight("self_attn.v_proj.weight", {c.hidden, c.hidden}));  // [T, H·Dh]
  const auto out = b.attention(
      b.rope(q, c.rope), b.rope(k, c.rope), v, cache,
      {.heads = c.heads, .kv_heads = c.heads, .head_dim = c.head_dim, .cache_layer = i});  // [T, H·Dh]
  return b.linear(out, layer.weight("self_attn.o_proj.weight", {c.hidden, c.hidden}));
}

// h [T, D] -> [T, D]
tensor_ref mlp(builder& b, const builder::scoped& layer, const model_config& c, tensor_ref h) {
  const auto gate = b.linear(h, layer.weight("mlp.gate_proj.weight", {c.mlp_hidden, c.hidden}));  // [T, F]
  const auto up = b.linear(h, layer.weight("mlp.up_proj.weight", {c.mlp_hidden, c.hidden}));      // [T, F]
  return b.linear(b.gated(gate, up), layer.weight("mlp.down_proj.weight", {c.hidden, c.mlp_hidden}));
}

void build(builder& b, const json& root) {
  const auto c = read_config(root);
  b.facts({.architecture = "MyModelForCausalLM",
           .vocabulary = c.vocab,
           .hidden = c.hidden,
           .layers = c.layers,
           .context_tokens = c.context,
           .bos_id = bos_id(root, c.vocab),
           .eos_ids = eos_ids(root, c.vocab)});
  const auto cache = b.kv_cache("kv", {.layers = c.layers, .kv_heads = c.heads, .head_dim = c.head_dim});
  auto x = b.embed(b.weight("model.embed_tokens.weight", {c.vocab, c.hidden}));  // [T, D]
  for (uint32_t i = 0; i < c.layers; ++i) {
    const auto layer = b.scope("model.layers", i);
    auto h = b.rms_norm(x, layer.weight("input_layernorm.weight", {c.hidden}), c.norm_eps);
    x = b.add(x, attention(b, layer, c, h, cache, i));
    h = b.rms_norm(x, layer.weight("post_attention_layernorm.weight", {c.hidden}), c.norm_eps);
    x = b.add(x, mlp(b, layer, c, h));
  }
  x = b.rms_norm(x, b.weight("model.norm.weight", {c.hidden}), c.norm_eps);
  b.logits(b.linear(b.select_rows(x), b.weight("lm_head.weight", {c.vocab, c.hidden})));  // [R, V]
}

}  // namespace

TROUPE_MODULE("my_model", "0.1.0", "A dense decoder to begin with", build, "MyModelForCausalLM")
