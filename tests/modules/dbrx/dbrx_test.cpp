#include <gmock/gmock.h>

#include <fstream>

#include "kernel/program/print.hpp"
#include "tests/support/module_fixture.hpp"

namespace troupe {
namespace {

namespace json = boost::json;
using program::OpKind;
using testing::HasSubstr;

struct dbrx {
  static constexpr const char* name = "dbrx";
};
class Dbrx : public test::module_fixture<dbrx> {
 protected:
  static json::object& attention(json::object& config) { return config.at("attn_config").as_object(); }
  static json::object& ffn(json::object& config) { return config.at("ffn_config").as_object(); }

  // The configuration that Databricks published for dbrx-base and dbrx-instruct.
  static json::object published() {
    std::ifstream file(TROUPE_SOURCE_DIR "/tests/modules/configs/dbrx.json");
    return json::parse(std::string(std::istreambuf_iterator<char>(file), {})).as_object();
  }
};

TEST_F(Dbrx, TellsTheFactsOfTheDemoModel) {
  const auto p = build(demo());
  const auto& f = *p->facts();
  EXPECT_EQ(f.architecture()->str(), "DbrxForCausalLM");
  EXPECT_EQ(f.vocabulary(), 4096u);
  EXPECT_EQ(f.hidden(), 256u);
  EXPECT_EQ(f.layers(), 6u);
  EXPECT_EQ(f.context_tokens(), 32768u);
  EXPECT_EQ(f.bos_id(), 4088);
  EXPECT_EQ(f.eos_ids()->Get(0), 4088);
  EXPECT_THAT(program::print(*p), HasSubstr("transformer.blocks.0  (to transformer.blocks.5: 6 alike)"));
}

TEST_F(Dbrx, ComputesTheKnownSizeOfThePublishedModel) {
  const auto p = build(published());
  const auto counts = program::count_parameters(*p);
  EXPECT_NEAR(static_cast<double>(counts.total), 131.60e9, 0.005e9);
  EXPECT_NEAR(static_cast<double>(counts.active), 35.85e9, 0.005e9);
  EXPECT_EQ(program::kv_bytes_per_token(*p, 2), 163840u);
  EXPECT_EQ(p->facts()->bos_id(), -1) << "the published file names no ids";
}

TEST_F(Dbrx, BindsEveryTensorOfTheDemoCheckpointAndCopiesOnlyW2) {
  const auto p = build(demo());
  const auto files = checkpoint::weights::open(demo_folder());
  ASSERT_TRUE(files) << files.error().text;
  std::uint64_t bytes = 0;
  for (const auto* w : *p->weights()) {
    const auto bound = checkpoint::bind(*w, **files);
    ASSERT_TRUE(bound) << bound.error().text;
    const bool is_w2 = w->name()->str().find("experts.down") != std::string::npos;
    EXPECT_EQ(bound->copied(), is_w2) << w->name()->str();
    bytes += bound->planes.size() * bound->rows * bound->columns * 2;
  }
  EXPECT_EQ(bytes, (*files)->total_bytes()) << "no tensor of the checkpoint is left over";
}

TEST_F(Dbrx, CutsWqkvAndTheStackedExpertsAsTheyAreStored) {
  const auto p = build(demo());
  const auto files = checkpoint::weights::open(demo_folder());
  ASSERT_TRUE(files) << files.error().text;
  const std::string block = "transformer.blocks.2.";
  const auto stored = [&](const char* name) { return (*files)->find(block + name)->data.data(); };
  const auto bound = [&](const char* name) { return *checkpoint::bind(*weight(p, block + name), **files); };
  const auto* wqkv = stored("norm_attn_norm.attn.Wqkv.weight");
  EXPECT_EQ(bound("norm_attn_norm.attn.q").planes[0], wqkv);
  EXPECT_EQ(bound("norm_attn_norm.attn.k").planes[0], wqkv + 256 * 256 * 2);
  EXPECT_EQ(bound("norm_attn_norm.attn.v").planes[0], wqkv + (256 + 64) * 256 * 2);
  EXPECT_EQ(bound("ffn.experts.gate").planes[5], stored("ffn.experts.mlp.w1") + 5 * 64 * 256 * 2);
  EXPECT_EQ(bound("ffn.experts.up").planes[15], stored("ffn.experts.mlp.v1") + 15 * 64 * 256 * 2);
  const auto down = bound("ffn.experts.down");
  ASSERT_EQ(down.planes.size(), 16u);
  ASSERT_EQ(down.rows, 256u);
  ASSERT_EQ(down.columns, 64u);
  // Row d, column f of expert 3 stands in row 3·F + f, column d of w2.
  const auto* w2 = stored("ffn.experts.mlp.w2");
  for (const auto& [d, f] : {std::pair{0, 0}, {1, 0}, {0, 1}, {255, 63}, {17, 40}})
    EXPECT_EQ(std::memcmp(down.planes[3] + (d * 64 + f) * 2, w2 + ((3 * 64 + f) * 256 + d) * 2, 2), 0)
        << d << " " << f;
}

TEST_F(Dbrx, ProbesTheTensorsThatTheReferenceRecorded) {
  const auto known = probes(build(demo()));
  const auto routers = recorded_routers();
  EXPECT_EQ(routers.size(), 6u);
  for (const auto& name : routers) EXPECT_TRUE(known.count(name)) << name;
  for (int i = 0; i <= 6; ++i) EXPECT_TRUE(known.count("hidden_states." + std::to_string(i)));
}

// Which op made the tensor that goes into an op.
const program::Op* source_of(const program::verified_program& p, const program::Op& op, std::uint32_t input) {
  for (const auto* o : *p->ops())
    for (const auto id : *o->outputs())
      if (id == op.inputs()->Get(input)) return o;
  return nullptr;
}

TEST_F(Dbrx, ClipsQueriesKeysAndValuesBeforeTheRotation) {
  const auto p = build(demo());
  const auto* a = op(p, OpKind::attention);
  for (const std::uint32_t input : {0u, 1u, 2u}) {
    const auto* made = source_of(p, *a, input);
    if (input < 2) {
      ASSERT_EQ(made->kind(), OpKind::rope);
      made = source_of(p, *made, 0);
    }
    ASSERT_EQ(made->kind(), OpKind::clamp);
    EXPECT_EQ(made->attrs_as_ClampAttrs()->min(), -8);
    EXPECT_EQ(made->attrs_as_ClampAttrs()->max(), 8);
    EXPECT_EQ(source_of(p, *made, 0)->kind(), OpKind::linear);
  }
}

TEST_F(Dbrx, ClipsNothingWithoutAClip) {
  auto c = demo();
  attention(c)["clip_qkv"] = nullptr;
  EXPECT_THROW(op(build(c), OpKind::clamp), std::runtime_error);
}

TEST_F(Dbrx, ReadsThetaFromTheAttentionsSectionAlone) {
  auto c = demo();
  c["rope_theta"] = 10000;
  EXPECT_EQ(op(build(c), OpKind::rope)->attrs_as_RopeAttrs()->theta(), 500000);
  attention(c).erase("rope_theta");
  c["rope_theta"] = 500000;
  EXPECT_EQ(op(build(c), OpKind::rope)->attrs_as_RopeAttrs()->theta(), 10000);
}

TEST_F(Dbrx, DividesTheChosenWeightsByTheirNormOfTheGivenPower) {
  auto c = demo();
  const auto rule = [&] {
    const auto built = build(c);
    const auto* a = op(built, OpKind::router)->attrs_as_RouterAttrs();
    EXPECT_EQ(a->score(), program::RouterScore::softmax);
    EXPECT_EQ(a->top_k(), 4u);
    return std::pair(a->norm(), a->norm_power());
  };
  EXPECT_EQ(rule(), std::pair(program::RouterNorm::sum, 1.0f));
  ffn(c)["moe_normalize_expert_weights"] = 2;
  EXPECT_EQ(rule(), std::pair(program::RouterNorm::sum, 2.0f));
  ffn(c).erase("moe_normalize_expert_weights");
  EXPECT_EQ(rule(), std::pair(program::RouterNorm::sum, 1.0f)) << "absent is 1";
  ffn(c)["moe_normalize_expert_weights"] = nullptr;
  EXPECT_EQ(rule().first, program::RouterNorm::none) << "null is none";
}

TEST_F(Dbrx, NormsWithoutBiasAndWithPyTorchsEpsilon) {
  const auto p = build(demo());
  const auto* norm = op(p, OpKind::layer_norm);
  EXPECT_EQ(norm->weights()->size(), 1u);
  EXPECT_EQ(norm->attrs_as_NormAttrs()->eps(), 1e-5f);
  EXPECT_THROW(op(p, OpKind::rms_norm), std::runtime_error);
}

TEST_F(Dbrx, TakesTheActivationThatTheConfigurationNames) {
  auto c = demo();
  const auto act = [&] { return op(build(c), OpKind::experts)->attrs_as_ExpertsAttrs()->activation(); };
  EXPECT_EQ(act(), program::Activation::silu);
  ffn(c)["ffn_act_fn"] = {{"name", "gelu"}};
  EXPECT_EQ(act(), program::Activation::gelu);
}

TEST_F(Dbrx, UsesTheEmbeddingAsOutputWhenTied) {
  auto c = demo();
  c["tie_word_embeddings"] = true;
  const auto p = build(c);
  EXPECT_THROW(weight(p, "lm_head.weight"), std::runtime_error);
  EXPECT_EQ(p->ops()->Get(p->ops()->size() - 1)->weights()->Get(0), p->ops()->Get(0)->weights()->Get(0));
}

TEST_F(Dbrx, NamesTheKeyThatIsMissing) {
  const auto expect_missing = [](const json::object& c, const std::string& key) {
    EXPECT_EQ(build_error(c), "config.json: " + key + ": the key is missing (module dbrx 1.0.0)");
  };
  for (const char* key :
       {"vocab_size", "d_model", "n_layers", "n_heads", "max_seq_len", "attn_config", "ffn_config"}) {
    auto c = demo();
    c.erase(key);
    expect_missing(c, key);
  }
  auto c = demo();
  attention(c).erase("kv_n_heads");
  expect_missing(c, "attn_config.kv_n_heads");
  for (const char* key : {"ffn_hidden_size", "moe_num_experts", "moe_top_k"}) {
    c = demo();
    ffn(c).erase(key);
    expect_missing(c, std::string("ffn_config.") + key);
  }
}

TEST_F(Dbrx, NamesTheKeyWhoseValueIsImpossible) {
  const auto expect_wrong = [](const json::object& c, const char* text) {
    EXPECT_THAT(build_error(c), HasSubstr(text));
  };
  auto c = demo();
  c["n_heads"] = 7;
  expect_wrong(c, "n_heads: expected a divisor of d_model, found 7");
  c["n_heads"] = 256;
  expect_wrong(c, "n_heads: expected heads of an even size, found 256");
  c = demo();
  c["ffn_config"] = 3;
  expect_wrong(c, "ffn_config: expected an object, found 3");
  c = demo();
  attention(c)["kv_n_heads"] = 3;
  expect_wrong(c, "attn_config.kv_n_heads: expected a divisor of n_heads, found 3");
  c = demo();
  attention(c)["clip_qkv"] = -8;
  expect_wrong(c, "attn_config.clip_qkv: expected a number above 0, found -8");
  c = demo();
  ffn(c)["moe_top_k"] = 17;
  expect_wrong(c, "ffn_config.moe_top_k: expected at most moe_num_experts, found 17");
  c = demo();
  ffn(c)["moe_normalize_expert_weights"] = 0;
  expect_wrong(c, "ffn_config.moe_normalize_expert_weights: expected a number above 0, found 0");
}

TEST_F(Dbrx, RefusesVariantsThatItDoesNotBuild) {
  auto c = demo();
  ffn(c)["ffn_act_fn"] = {{"name", "mish"}};
  EXPECT_THAT(build_error(c, error_code::unsupported),
              HasSubstr("ffn_config.ffn_act_fn.name: expected silu"));
  c = demo();
  ffn(c)["uniform_expert_assignment"] = true;
  EXPECT_THAT(build_error(c, error_code::unsupported),
              HasSubstr("ffn_config.uniform_expert_assignment: expected false, found true"));
}

TEST_F(Dbrx, RefusesNumbersThatOverflow) {
  auto c = demo();
  ffn(c)["ffn_hidden_size"] = 4294967295u;
  EXPECT_THAT(build_error(c), HasSubstr("ffn_config.ffn_hidden_size: expected at most 2147483647"));
  c = demo();
  c["n_layers"] = 4097;
  EXPECT_THAT(build_error(c), HasSubstr("n_layers: expected at most 4096, found 4097"));
}

}  // namespace
}  // namespace troupe
