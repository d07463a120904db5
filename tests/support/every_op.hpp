// A small Program that uses every op of the schema, built with the SDK as a module would. Vocabulary and cache as in
// tiny_program, so that what feeds one feeds the other.
#pragma once

#include <memory>
#include <troupe/sdk/builder.hpp>

#include "tests/support/tiny_program.hpp"

namespace troupe::test {

class every_op {
 public:
  static constexpr std::uint32_t vocabulary = tiny_program::vocabulary, hidden = 16, heads = 4, kv_heads = 2,
                                 head_dim = 4, experts = 4, expert_hidden = 8;

  static program::ProgramT make() {
    sdk::builder b;
    build(b);
    const auto bytes = b.finish();
    program::ProgramT out;
    program::GetProgram(bytes.data())->UnPackTo(&out);
    return out;
  }

 private:
  using tensor = sdk::tensor_ref;

  static void build(sdk::builder& b) {
    b.facts({.architecture = "EveryOp",
             .vocabulary = vocabulary,
             .hidden = hidden,
             .layers = 1,
             .context_tokens = 64});
    const auto cache =
        b.kv_cache("kv", {.layers = 1, .kv_heads = kv_heads, .head_dim = head_dim, .window = 8});
    auto x = b.embed(b.weight("embed", {vocabulary, hidden}));
    b.probe("embedded", x);
    const auto layer = b.scope("layers", 0);
    x = b.add(x, attention(b, layer, x, cache));
    b.probe("attended", x);
    x = b.add(x, dense(b, layer, b.layer_norm(x, layer.weight("norm_2", {hidden}), 1e-5f)));
    x = b.add(x, mixture(b, layer, b.rms_norm(x, layer.weight("norm_3", {hidden}), 1e-5f)));
    b.logits(b.linear(b.select_rows(x), b.weight("head", {vocabulary, hidden})));
  }

  static tensor attention(sdk::builder& b, const sdk::builder::scoped& layer, tensor x,
                          sdk::cache_ref cache) {
    const auto h =
        b.layer_norm(x, layer.weight("norm_1", {hidden}), layer.weight("norm_1_bias", {hidden}), 1e-5f);
    const auto qkv =
        b.clamp(b.linear(h, layer.weight("qkv", {32, hidden}), layer.weight("qkv_bias", {32})), -2, 3);
    const auto parts = b.split(qkv, {16, 8, 8});
    auto q = b.rms_norm_groups(parts[0], layer.weight("q_norm", {head_dim}), 1e-6f, head_dim);
    auto k = b.rms_norm_groups(parts[1], layer.weight("k_norm", {head_dim}), 1e-6f, head_dim);
    q = b.rope(q, {.head_dim = head_dim, .frequencies = {0.5f, 0.02f}, .amplitude = 1.25f});
    k = b.rope(k, {.head_dim = head_dim, .rotary_dim = 2});
    return b.attention(q, k, parts[2], cache,
                       {.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim, .soft_cap = 5});
  }

  static tensor dense(sdk::builder& b, const sdk::builder::scoped& layer, tensor h) {
    const auto gate = b.linear(h, layer.weight("gate", {24, hidden}));
    const auto up = b.linear(h, layer.weight("up", {24, hidden}));
    const auto down =
        b.linear(b.gated(gate, up, program::Activation::gelu_tanh), layer.weight("down", {hidden, 24}));
    const auto side = b.activation(b.mul(h, down), program::Activation::relu);
    return b.linear(b.concat({down, side}), layer.weight("mix", {hidden, 2 * hidden}));
  }

  static tensor mixture(sdk::builder& b, const sdk::builder::scoped& layer, tensor h) {
    const auto chosen =
        b.router(b.linear(h, layer.weight("router", {experts, hidden})),
                 {.top_k = 2, .norm = program::RouterNorm::sum, .norm_power = 2, .scale = 1.5f});
    return b.experts(h, chosen,
                     {layer.weight("expert_gate", {experts, expert_hidden, hidden}),
                      layer.weight("expert_up", {experts, expert_hidden, hidden}),
                      layer.weight("expert_down", {experts, hidden, expert_hidden})},
                     program::Activation::gelu);
  }
};

}  // namespace troupe::test
