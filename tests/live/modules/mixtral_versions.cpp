// Mixtral once more, as versions that an operator might swap in: which one is said by troupe_test_version (a file per version). Written
// for the demo checkpoint: weights one by one, nothing optional.
//
// T tokens of the step  D hidden  H heads  K kv heads  Dh head size  E experts  F expert hidden  V vocabulary
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <troupe/sdk/module.hpp>

extern "C" const int troupe_test_version;

namespace {

using namespace troupe::sdk;
using std::uint32_t;

enum version { reordered = 1, two_caches, other_results, with_native_op, not_finite_later, slow_later };

bool uses_native_op() {
  return troupe_test_version >= with_native_op;
}

// y = x, but for what the version does wrong after a while: probe prompts take less than fifty steps.
struct copy {
  static constexpr const char* name = "copy";
  static constexpr uint32_t version = 1;
  static constexpr const char* summary = "hands on what it gets";
  static constexpr native_value inputs[] = {{"x"}}, outputs[] = {{"y"}};
  static void shapes(native_shapes& s) { s.output(0, s.columns(0)); }
  static void cpu(const native_step& s) {
    static std::atomic<int> steps{0};
    const bool late = ++steps > 50;
    if (late && troupe_test_version == slow_later)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    for (std::size_t t = 0; t < s.rows(); ++t)
      std::memcpy(s.output(0, t), s.input(0, t), s.columns(0) * sizeof(float));
    if (late && troupe_test_version == not_finite_later)
      s.output(0, 0)[0] = std::numeric_limits<float>::quiet_NaN();
  }
};

struct sizes {
  uint32_t vocab, hidden, layers, heads, kv_heads, head_dim, experts, top_k, expert_hidden, context;
  float norm_eps;
  rope_options rope;
};

sizes read_config(const json& c) {
  sizes m;
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
  if (m.hidden % m.heads != 0) c.find("num_attention_heads")->wrong("a divisor of hidden_size");
  if (m.heads % m.kv_heads != 0) c.find("num_key_value_heads")->wrong("a divisor of num_attention_heads");
  if (m.top_k > m.experts) c.find("num_experts_per_tok")->wrong("at most num_local_experts");
  m.rope = read_rope(c, m.head_dim, 1e6);
  if (troupe_test_version == other_results) m.norm_eps += 0.05F;
  return m;
}

// h [T, D] -> [T, D]. Values first, then keys, then queries: the order does not show in the results.
tensor_ref attention(builder& b, const builder::scoped& layer, const sizes& c, tensor_ref h, cache_ref cache,
                     uint32_t cache_layer) {
  const std::uint64_t queries = std::uint64_t{c.heads} * c.head_dim,
                      keys = std::uint64_t{c.kv_heads} * c.head_dim;
  const auto v = b.linear(h, layer.weight("self_attn.v_proj.weight", {keys, c.hidden}));
  const auto k = b.rope(b.linear(h, layer.weight("self_attn.k_proj.weight", {keys, c.hidden})), c.rope);
  const auto q = b.rope(b.linear(h, layer.weight("self_attn.q_proj.weight", {queries, c.hidden})), c.rope);
  const auto out = b.attention(
      q, k, v, cache,
      {.heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .cache_layer = cache_layer});
  return b.linear(out, layer.weight("self_attn.o_proj.weight", {c.hidden, queries}));
}

// h [T, D] -> [T, D]
tensor_ref experts(builder& b, const builder::scoped& layer, const sizes& c, tensor_ref h) {
  const uint32_t E = c.experts, F = c.expert_hidden, D = c.hidden;
  const auto each = [&](const char* name, const shape& dimensions, const char* per_expert) {
    return layer.weight(name, dimensions, {.spellings = {layer.per_expert(per_expert, E)}});
  };
  const auto down = each("mlp.experts.down", {E, D, F}, "block_sparse_moe.experts.*.w2.weight");
  const auto up = each("mlp.experts.up", {E, F, D}, "block_sparse_moe.experts.*.w3.weight");
  const auto gate = each("mlp.experts.gate", {E, F, D}, "block_sparse_moe.experts.*.w1.weight");
  const auto router =
      layer.weight("mlp.gate.weight", {E, D}, {.spellings = {layer.stored("block_sparse_moe.gate.weight")}});
  const auto chosen =
      b.router(b.linear(h, router), {.top_k = c.top_k, .norm = troupe::program::RouterNorm::sum});
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
  const auto cache_of = [&](const char* name, uint32_t layers) {
    return b.kv_cache(name, {.layers = layers, .kv_heads = c.kv_heads, .head_dim = c.head_dim});
  };
  const bool split = troupe_test_version == two_caches && c.layers > 1;
  const auto kv = split ? cache_of("even", (c.layers + 1) / 2) : cache_of("kv", c.layers);
  const auto odd = split ? cache_of("odd", c.layers / 2) : kv;
  auto x = b.embed(b.weight("model.embed_tokens.weight", {c.vocab, c.hidden}));  // [T, D]
  for (uint32_t i = 0; i < c.layers; ++i) {
    const auto layer = b.scope("model.layers", i);
    auto h = b.rms_norm(x, layer.weight("input_layernorm.weight", {c.hidden}), c.norm_eps);
    x = b.add(x, attention(b, layer, c, h, i % 2 == 0 ? kv : odd, split ? i / 2 : i));
    h = b.rms_norm(x, layer.weight("post_attention_layernorm.weight", {c.hidden}), c.norm_eps);
    x = b.add(x, experts(b, layer, c, h));
  }
  x = b.rms_norm(x, b.weight("model.norm.weight", {c.hidden}), c.norm_eps);
  if (uses_native_op()) x = b.native<copy>({x})[0];
  b.logits(b.linear(b.select_rows(x), b.weight("lm_head.weight", {c.vocab, c.hidden})));  // [R, V]
}

const troupe_native_op* const* ops() {
  return uses_native_op() ? native_op_list<copy>::table() : native_op_list<>::table();
}

}  // namespace

extern "C" TROUPE_EXPORT const troupe_module* troupe_module_entry(void) {
  static const char* const architectures[] = {"MixtralForCausalLM", nullptr};
  static const std::string release = "2." + std::to_string(troupe_test_version);
  static const troupe_module table = {
      sizeof(troupe_module),
      TROUPE_ABI_MAJOR,
      TROUPE_ABI_MINOR,
      "mixtral",
      release.c_str(),
      "a version of Mixtral's module, for tests",
      architectures,
      [](const char* config, std::size_t bytes, const troupe_build_host* host) {
        return run_build(build, config, bytes, host);
      },
      ops()};
  return &table;
}
