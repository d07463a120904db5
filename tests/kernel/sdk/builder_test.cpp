#include <gmock/gmock.h>

#include <functional>
#include <troupe/sdk/builder.hpp>

#include "kernel/program/program.hpp"

namespace troupe::sdk {
namespace {

using program::WeightRole;

program::verified_program verified(const builder& b) {
  const auto bytes = b.finish();
  auto out = program::verify({bytes.data(), bytes.size()});
  if (!out) throw std::runtime_error(out.error().text);
  return *out;
}

// One layer with every op.
void build_all(builder& b) {
  b.facts({.architecture = "A",
           .vocabulary = 32,
           .hidden = 16,
           .layers = 1,
           .context_tokens = 64,
           .bos_id = 1,
           .eos_ids = {2, 3},
           .chat_template = "{{ x }}"});
  const auto cache = b.kv_cache("kv", {.layers = 1, .kv_heads = 2, .head_dim = 4, .window = 8});
  auto x = b.embed(b.weight("embed", {32, 16}));
  {
    const auto layer = b.scope("layers", 0);
    const auto h = b.rms_norm(x, layer.weight("norm", {16}), 1e-5f);
    const auto q = b.rope(b.linear(h, layer.weight("q", {16, 16}), layer.weight("q_bias", {16})),
                          {.head_dim = 4, .rotary_dim = 2});
    const auto k = b.rope(b.linear(h, layer.weight("k", {8, 16})), {.head_dim = 4});
    const auto v = b.linear(h, layer.weight("v", {8, 16}));
    x = b.add(x, b.attention(q, k, v, cache, {.heads = 4, .kv_heads = 2, .head_dim = 4}));
    const auto chosen = b.router(b.linear(x, layer.weight("router", {4, 16})), {.top_k = 2});
    x = b.add(x, b.experts(x, chosen,
                           {layer.weight("gate", {4, 8, 16}), layer.weight("up", {4, 8, 16}),
                            layer.weight("down", {4, 16, 8})}));
  }
  b.probe("last", x);
  b.logits(b.linear(b.select_rows(x), b.weight("head", {32, 16})));
}

TEST(Builder, BuildsAProgramThatTheVerifierAccepts) {
  builder b;
  build_all(b);
  const auto p = verified(b);
  EXPECT_EQ(p->facts()->chat_template()->str(), "{{ x }}");
  EXPECT_EQ(p->facts()->eos_ids()->size(), 2u);
  EXPECT_EQ(p->caches()->Get(0)->window(), 8u);
  EXPECT_EQ(p->probes()->Get(0)->name()->str(), "last");
  EXPECT_EQ(p->ops()->Get(0)->scope(), nullptr) << "no scope, no string";
  EXPECT_EQ(p->ops()->Get(1)->scope()->str(), "layers.0");
  const auto* attention = p->ops()->Get(7);
  ASSERT_EQ(attention->kind(), program::OpKind::attention);
  EXPECT_FLOAT_EQ(attention->attrs_as_AttentionAttrs()->scale(), 0.5f);
  EXPECT_EQ(p->ops()->Get(3)->attrs_as_RopeAttrs()->rotary_dim(), 2u);
  EXPECT_EQ(p->ops()->Get(5)->attrs_as_RopeAttrs()->rotary_dim(), 4u);
}

TEST(Builder, EmitsTheSameBytesEachTime) {
  builder a, b;
  build_all(a);
  build_all(b);
  const auto one = a.finish(), two = b.finish();
  ASSERT_EQ(one.size(), two.size());
  EXPECT_EQ(std::memcmp(one.data(), two.data(), one.size()), 0);
}

TEST(Builder, DerivesRolesFromUse) {
  builder b;
  build_all(b);
  const auto p = verified(b);
  std::map<std::string, std::pair<WeightRole, bool>> found;
  for (const auto* w : *p->weights()) found[w->name()->str()] = {w->role(), w->quantizable()};
  EXPECT_EQ(found["embed"], std::make_pair(WeightRole::embedding, false));
  EXPECT_EQ(found["layers.0.norm"], std::make_pair(WeightRole::norm, false));
  EXPECT_EQ(found["layers.0.q"], std::make_pair(WeightRole::linear, true));
  EXPECT_EQ(found["layers.0.q_bias"], std::make_pair(WeightRole::bias, false));
  EXPECT_EQ(found["layers.0.router"], std::make_pair(WeightRole::router, false));
  EXPECT_EQ(found["layers.0.gate"], std::make_pair(WeightRole::experts, true));
  EXPECT_EQ(found["head"], std::make_pair(WeightRole::output, false));
}

TEST(Builder, SpellsATensorSeenAsAnotherShape) {
  builder b;
  const auto layer = b.scope("layers", 0);
  const auto seen = layer.reshaped("w1", {4, 8, 16}).sources[0];
  EXPECT_EQ(seen.tensor, "layers.0.w1");
  EXPECT_EQ(seen.reshaped, (shape{4, 8, 16}));
  EXPECT_FALSE(seen.transposed);
  EXPECT_TRUE(layer.reshaped_and_transposed("w2", {4, 8, 16}).sources[0].transposed);
}

TEST(Builder, NestsScopesAndSpellsWeights) {
  builder b;
  const auto layer = b.scope("model.layers", 3);
  const auto inner = b.scope("mlp");
  EXPECT_EQ(inner.path("gate"), "model.layers.3.mlp.gate");
  const auto stacked = layer.per_expert("experts.*.w1.weight", 2);
  EXPECT_EQ(stacked.combine, program::Combine::stack);
  ASSERT_EQ(stacked.sources.size(), 2u);
  EXPECT_EQ(stacked.sources[1].tensor, "model.layers.3.experts.1.w1.weight");
  const auto part = layer.part("gate_up", 1, 8, 16);
  EXPECT_EQ(part.sources[0].slice_axis, 1);
  EXPECT_EQ(part.sources[0].slice_end, 16u);
  EXPECT_EQ(layer.stored("x").sources[0].tensor, "model.layers.3.x");
}

struct misuse {
  const char* text;  // the whole sentence
  std::function<void(builder&)> use;
};

TEST(Builder, NamesScopeOpExpectedAndFound) {
  const misuse cases[] = {
      {"layers.2: embed: table w [4]: expected [V, D]", [](builder& b) { b.embed(b.weight("w", {4})); }},
      {"layers.2: linear: weight w [8, 15]: expected [M, 16] for x [T, 16]",
       [](builder& b) {
         b.linear(b.embed(b.weight("e", {32, 16})), b.weight("w", {8, 15}));
       }},
      {"layers.2: linear: weight b [7]: expected [8]",
       [](builder& b) {
         b.linear(b.embed(b.weight("e", {32, 16})), b.weight("w", {8, 16}), b.weight("b", {7}));
       }},
      {"layers.2: rms_norm: weight w [15]: expected [16]",
       [](builder& b) {
         b.rms_norm(b.embed(b.weight("e", {32, 16})), b.weight("w", {15}), 1);
       }},
      {"layers.2: add: expected two tensors of one shape, found [T, 16] and [R, 16]",
       [](builder& b) {
         const auto x = b.embed(b.weight("e", {32, 16}));
         b.add(x, b.select_rows(x));
       }},
      {"layers.2: rms_norm_groups: expected a multiple of 5 columns, found [T, 16]",
       [](builder& b) {
         b.rms_norm_groups(b.embed(b.weight("e", {32, 16})), b.weight("w", {5}), 1, 5);
       }},
      {"layers.2: rms_norm_groups: weight w [16]: expected [4]",
       [](builder& b) {
         b.rms_norm_groups(b.embed(b.weight("e", {32, 16})), b.weight("w", {16}), 1, 4);
       }},
      {"layers.2: layer_norm: weight b [15]: expected [16]",
       [](builder& b) {
         b.layer_norm(b.embed(b.weight("e", {32, 16})), b.weight("w", {16}), b.weight("b", {15}), 1);
       }},
      {"layers.2: mul: expected two tensors of one shape, found [T, 16] and [R, 16]",
       [](builder& b) {
         const auto x = b.embed(b.weight("e", {32, 16}));
         b.mul(x, b.select_rows(x));
       }},
      {"layers.2: gated: expected two tensors of one shape, found [T, 16] and [T, 8]",
       [](builder& b) {
         const auto x = b.embed(b.weight("e", {32, 16}));
         b.gated(x, b.linear(x, b.weight("w", {8, 16})));
       }},
      {"layers.2: clamp: expected min <= max, found 8.000000 and -8.000000",
       [](builder& b) {
         b.clamp(b.embed(b.weight("e", {32, 16})), 8, -8);
       }},
      {"layers.2: split: expected at least two widths that add up to [T, 16], found [8, 4]",
       [](builder& b) {
         b.split(b.embed(b.weight("e", {32, 16})), {8, 4});
       }},
      {"layers.2: split: expected at least two widths that add up to [T, 16], found [16]",
       [](builder& b) {
         b.split(b.embed(b.weight("e", {32, 16})), {16});
       }},
      {"layers.2: concat: expected at least two tensors, found 1",
       [](builder& b) {
         b.concat({b.embed(b.weight("e", {32, 16}))});
       }},
      {"layers.2: concat: expected tensors of equal rows, found [T, 16] and [R, 16]",
       [](builder& b) {
         const auto x = b.embed(b.weight("e", {32, 16}));
         b.concat({x, b.select_rows(x)});
       }},
      {"layers.2: rope: expected a multiple of head_dim 5, found [T, 16]",
       [](builder& b) {
         b.rope(b.embed(b.weight("e", {32, 16})), {.head_dim = 5});
       }},
      {"layers.2: rope: expected frequencies for half of rotary_dim 4, found 3",
       [](builder& b) {
         b.rope(b.embed(b.weight("e", {32, 16})), {.head_dim = 4, .frequencies = {1, 2, 3}});
       }},
      {"layers.2: attention: expected q [T, 32], k and v [T, 16], found [T, 16], [T, 16] and [T, 16]",
       [](builder& b) {
         const auto x = b.embed(b.weight("e", {32, 16}));
         b.attention(x, x, x, {}, {.heads = 8, .kv_heads = 4, .head_dim = 4});
       }},
      {"layers.2: router: expected top_k from 1 to the experts, found 17 of [T, 16]",
       [](builder& b) {
         b.router(b.embed(b.weight("e", {32, 16})), {.top_k = 17});
       }},
      {"layers.2: experts: gate g [4, 8]: expected [E, F, 16]",
       [](builder& b) {
         const auto x = b.embed(b.weight("e", {32, 16}));
         const auto g = b.weight("g", {4, 8});
         b.experts(x, b.router(x, {.top_k = 2}), {g, g, g});
       }},
      {"layers.2: experts: weight d [4, 8, 16]: expected [4, 16, 8]",
       [](builder& b) {
         const auto x = b.embed(b.weight("e", {32, 16}));
         const auto g = b.weight("g", {4, 8, 16});
         b.experts(x, b.router(x, {.top_k = 2}), {g, g, b.weight("d", {4, 8, 16})});
       }},
      {"layers.2: select_rows: expected [T, N], found [R, 16]",
       [](builder& b) {
         b.select_rows(b.select_rows(b.embed(b.weight("e", {32, 16}))));
       }},
      {"layers.2: logits: expected [R, V], found [T, 16]",
       [](builder& b) {
         b.logits(b.embed(b.weight("e", {32, 16})));
       }},
      {"layers.2: logits: given twice",
       [](builder& b) {
         const auto x = b.select_rows(b.embed(b.weight("e", {32, 16})));
         b.logits(x);
         b.logits(x);
       }},
      {"layers.2: weight: the name w comes twice",
       [](builder& b) { b.weight("w", {1}), b.weight("w", {1}); }},
      {"layers.2: tensor: of another builder", [](builder& b) { b.select_rows({77}); }},
      {"layers.2: weight: of another builder", [](builder& b) { b.embed({77}); }},
      {"layers.2: finish: expected facts, found none", [](builder& b) { b.finish(); }},
      {"layers.2: finish: expected logits, found none",
       [](builder& b) {
         b.facts({});
         b.finish();
       }},
  };
  for (const auto& c : cases) {
    builder b;
    const auto scope = b.scope("layers", 2);
    try {
      c.use(b);
      ADD_FAILURE() << "no error; expected " << c.text;
    } catch (const program_error& e) {
      EXPECT_STREQ(e.what(), c.text);
      EXPECT_EQ(e.status(), TROUPE_FAILED);
    }
  }
}

TEST(Builder, RefusesAPerExpertPatternWithoutAStar) {
  builder b;
  const auto layer = b.scope("layers", 0);
  EXPECT_THROW(layer.per_expert("experts.w1", 2), program_error);
}

}  // namespace
}  // namespace troupe::sdk
