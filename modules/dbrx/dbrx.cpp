// DBRX: a decoder of equal layers, each attention and then a mixture of experts, both behind a LayerNorm without bias and
// added to the residual stream.
//
// T tokens of the step  D hidden  H heads  K kv heads  Dh head size  E experts  F expert hidden  V vocabulary
#include <troupe/sdk/module.hpp>

namespace {

using namespace troupe::sdk;
using std::uint32_t;
using std::uint64_t;
using troupe::program::Activation;
using troupe::program::Partition;
using troupe::program::RouterNorm;

constexpr float norm_eps = 1e-5f;  // not in config.json: what PyTorch's LayerNorm takes

struct dbrx_config {
  uint32_t vocab, hidden, layers, heads, kv_heads, head_dim, experts, expert_hidden, context;
  float clip;  // queries, keys and values are moved into [-clip, clip]; 0 = left as they are
  rope_options rope;
  router_options router;
  Activation activation;
  bool tied;  // the output uses the embedding's weight
};

// The chosen weights are divided by their p-norm; absent is p = 1, their sum, and null is as they are.
router_options read_router(const json& ffn) {
  router_options r{.top_k = positive(ffn, "moe_top_k"), .norm = RouterNorm::sum};
  if (ffn.is_null("moe_normalize_expert_weights")) r.norm = RouterNorm::none;
  r.norm_power = static_cast<float>(above_zero(ffn, "moe_normalize_expert_weights", 1));
  require(ffn, "uniform_expert_assignment", false);
  return r;
}

dbrx_config read_config(const json& c) {
  const json& attention = section(c, "attn_config");
  const json& ffn = section(c, "ffn_config");
  dbrx_config d;
  d.vocab = positive(c, "vocab_size");
  d.hidden = positive(c, "d_model");
  d.layers = count(c, "n_layers");
  d.heads = positive(c, "n_heads");
  d.context = positive(c, "max_seq_len");
  d.tied = c.get_or<bool>("tie_word_embeddings", false);
  if (d.hidden % d.heads != 0) c.find("n_heads")->wrong("a divisor of d_model");
  d.head_dim = d.hidden / d.heads;
  if (d.head_dim % 2 != 0) c.find("n_heads")->wrong("heads of an even size");
  d.kv_heads = positive(attention, "kv_n_heads");
  if (d.heads % d.kv_heads != 0) attention.find("kv_n_heads")->wrong("a divisor of n_heads");
  d.clip = static_cast<float>(above_zero(attention, "clip_qkv", 0));
  d.rope = {.head_dim = d.head_dim, .theta = above_zero(attention, "rope_theta", 10000)};
  d.experts = count(ffn, "moe_num_experts");
  d.expert_hidden = positive(ffn, "ffn_hidden_size");
  d.router = read_router(ffn);
  if (d.router.top_k > d.experts) ffn.find("moe_top_k")->wrong("at most moe_num_experts");
  const json* act = ffn.find("ffn_act_fn");
  d.activation = act == nullptr ? Activation::silu : read_activation(*act, "name", Activation::silu);
  return d;
}

// h [T, D] -> [T, D]. Queries, keys and values are parts of one stored matrix, Wqkv [H·Dh + 2·K·Dh, D].
tensor_ref attention(builder& b, const builder::scoped& block, const dbrx_config& c, tensor_ref h,
                     cache_ref cache, uint32_t i) {
  const uint64_t queries = uint64_t{c.heads} * c.head_dim, keys = uint64_t{c.kv_heads} * c.head_dim;
  const auto rows_of_wqkv = [&](const char* name, uint64_t first, uint64_t count) {
    const auto stored = block.part("norm_attn_norm.attn.Wqkv.weight", 0, first, first + count);
    return block.weight(name, {count, c.hidden}, {.partition = Partition::rows, .spellings = {stored}});
  };
  const auto clip = [&](tensor_ref x) { return c.clip > 0 ? b.clamp(x, -c.clip, c.clip) : x; };
  auto q = b.linear(h, rows_of_wqkv("norm_attn_norm.attn.q", 0, queries));            // [T, H·Dh]
  auto k = b.linear(h, rows_of_wqkv("norm_attn_norm.attn.k", queries, keys));         // [T, K·Dh]
  auto v = b.linear(h, rows_of_wqkv("norm_attn_norm.attn.v", queries + keys, keys));  // [T, K·Dh]
  q = b.rope(clip(q), c.rope), k = b.rope(clip(k), c.rope), v = clip(v);
  const auto out = b.attention(
      q, k, v, cache, {.heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .cache_layer = i});
  return b.linear(out, block.weight("norm_attn_norm.attn.out_proj.weight", {c.hidden, queries},
                                    {.partition = Partition::columns}));
}

// h [T, D] -> [T, D]. Each of w1 (gate), v1 (up) and w2 (down) is stored for all experts in one matrix [E·F, D], w2 too: the
// experts' down [D, F] are its parts, transposed.
tensor_ref experts(builder& b, const builder::scoped& block, const dbrx_config& c, tensor_ref h) {
  const uint32_t E = c.experts, F = c.expert_hidden, D = c.hidden;
  const auto stack = [&](const char* name, const shape& dimensions, const spelling& stored) {
    return block.weight(name, dimensions, {.partition = Partition::experts, .spellings = {stored}});
  };
  const auto gate = stack("ffn.experts.gate", {E, F, D}, block.reshaped("ffn.experts.mlp.w1", {E, F, D}));
  const auto up = stack("ffn.experts.up", {E, F, D}, block.reshaped("ffn.experts.mlp.v1", {E, F, D}));
  const auto down =
      stack("ffn.experts.down", {E, D, F}, block.reshaped_and_transposed("ffn.experts.mlp.w2", {E, F, D}));
  const auto logits = b.linear(h, block.weight("ffn.router.layer.weight", {E, D}));  // [T, E]
  b.probe("router." + block.path("ffn.router"), logits);
  return b.experts(h, b.router(logits, c.router), {gate, up, down}, c.activation);
}

void build(builder& b, const json& root) {
  const auto c = read_config(root);
  b.facts({.architecture = "DbrxForCausalLM",
           .vocabulary = c.vocab,
           .hidden = c.hidden,
           .layers = c.layers,
           .context_tokens = c.context,
           .bos_id = bos_id(root, c.vocab),
           .eos_ids = eos_ids(root, c.vocab)});
  const auto cache = b.kv_cache("kv", {.layers = c.layers, .kv_heads = c.kv_heads, .head_dim = c.head_dim});
  const auto table = b.weight("transformer.wte.weight", {c.vocab, c.hidden});
  auto x = b.embed(table);  // [T, D]
  for (uint32_t i = 0; i < c.layers; ++i) {
    b.probe("hidden_states." + std::to_string(i), x);
    const auto block = b.scope("transformer.blocks", i);
    auto h = b.layer_norm(x, block.weight("norm_attn_norm.norm_1.weight", {c.hidden}), norm_eps);
    x = b.add(x, attention(b, block, c, h, cache, i));
    h = b.layer_norm(x, block.weight("norm_attn_norm.norm_2.weight", {c.hidden}), norm_eps);
    x = b.add(x, experts(b, block, c, h));
  }
  x = b.layer_norm(x, b.weight("transformer.norm_f.weight", {c.hidden}), norm_eps);
  b.probe("hidden_states." + std::to_string(c.layers), x);
  const auto head =
      c.tied ? table : b.weight("lm_head.weight", {c.vocab, c.hidden}, {.partition = Partition::rows});
  b.logits(b.linear(b.select_rows(x), head));  // [R, V]
}

}  // namespace

TROUPE_MODULE("dbrx", "1.0.0", "DBRX: every layer a mixture of many small experts, clipped attention", build,
              "DbrxForCausalLM")
