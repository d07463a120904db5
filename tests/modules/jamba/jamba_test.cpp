#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <set>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/modules/modules.hpp"
#include "kernel/program/native_ops.hpp"
#include "kernel/program/print.hpp"
#include "tests/support/safetensors_writer.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe {
namespace {

namespace json = boost::json;
using program::OpKind;
using testing::HasSubstr;

class Jamba : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    store_folder_ = std::make_unique<test::temp_folder>();
    auto m =
        modules::store::open(store_folder_->path())->load(TROUPE_BINARY_DIR "/lib/troupe/modules/jamba.so");
    ASSERT_TRUE(m) << m.error().text;
    module_ = *m;
  }
  static void TearDownTestSuite() {
    module_.reset();
    store_folder_.reset();
  }

  // The demo's configuration, to be changed by a test.
  static json::object demo() {
    const auto config = checkpoint::read_config(TROUPE_SOURCE_DIR "/demo/jamba-demo");
    return json::parse(config->config_json).as_object();
  }
  // As published with Jamba v0.1.
  static json::object published() {
    auto c = demo();
    c["hidden_size"] = 4096, c["intermediate_size"] = 14336, c["num_hidden_layers"] = 32;
    c["num_attention_heads"] = 32, c["num_key_value_heads"] = 8, c["mamba_dt_rank"] = 256;
    c["vocab_size"] = 65536;
    return c;
  }
  static program::verified_program build(const json::object& config) {
    auto p = module_->build(json::serialize(config));
    if (!p) throw std::runtime_error(p.error().text);
    return *p;
  }
  static std::string build_error(const json::object& config, error_code code = error_code::bad_checkpoint) {
    const auto p = module_->build(json::serialize(config));
    if (p) return "no error";
    EXPECT_EQ(p.error().code, code) << p.error().text;
    return p.error().text;
  }
  static const program::Weight* weight(const program::verified_program& p, std::string_view name) {
    for (const auto* w : *p->weights())
      if (w->name()->string_view() == name) return w;
    throw std::runtime_error("no weight " + std::string(name));
  }
  static const program::Cache* cache(const program::verified_program& p, std::string_view name) {
    for (const auto* c : *p->caches())
      if (c->name()->string_view() == name) return c;
    throw std::runtime_error("no cache " + std::string(name));
  }
  // Scopes of the ops of a kind; of a native op by its name.
  static std::vector<std::string> scopes(const program::verified_program& p, OpKind kind,
                                         std::string_view native = {}) {
    std::vector<std::string> out;
    for (const auto* op : *p->ops())
      if (op->kind() == kind &&
          (kind != OpKind::native || op->attrs_as_NativeAttrs()->op()->string_view() == native))
        out.push_back(op->scope()->str());
    return out;
  }

  static inline std::unique_ptr<test::temp_folder> store_folder_;
  static inline modules::module_ptr module_;
};

TEST_F(Jamba, TellsTheFactsOfTheDemoModel) {
  const auto p = build(demo());
  const auto& f = *p->facts();
  EXPECT_EQ(f.architecture()->str(), "JambaForCausalLM");
  EXPECT_EQ(f.vocabulary(), 2944u);
  EXPECT_EQ(f.hidden(), 256u);
  EXPECT_EQ(f.layers(), 8u);
  EXPECT_EQ(f.context_tokens(), 262144u);
  EXPECT_EQ(f.bos_id(), 1);
  EXPECT_EQ(f.eos_ids()->Get(0), 2);
  EXPECT_EQ(program::kv_bytes_per_token(*p, 2), 1u * 2 * 2 * 32 * 2);
  EXPECT_EQ(program::state_bytes_per_sequence(*p), 7u * (16 + 3) * 512 * 4);
}

TEST_F(Jamba, BringsItsTwoOpsAlong) {
  ASSERT_EQ(module_->declared_ops().size(), 2u);
  EXPECT_EQ(module_->declared_ops()[0].name, "causal_conv");
  EXPECT_EQ(module_->declared_ops()[1].states, std::vector<std::string>{"ssm"});
  EXPECT_TRUE(module_->trust()) << "it came with this Troupe";
  const auto ops = module_->native_ops();
  ASSERT_TRUE(ops) << ops.error().text;
  EXPECT_NE(ops->find("causal_conv", 1), nullptr);
  EXPECT_NE(ops->find("selective_scan", 1), nullptr);
}

TEST_F(Jamba, PutsAttentionMambaExpertsAndDenseLayersWhereTheyBelong) {
  const auto p = build(published());
  const auto layers = [](std::uint32_t first, std::uint32_t step, std::uint32_t except = 0) {
    std::vector<std::string> out;
    for (std::uint32_t i = first; i < 32; i += step)
      if (except == 0 || i % except != 4) out.push_back("model.layers." + std::to_string(i));
    return out;
  };
  EXPECT_EQ(scopes(p, OpKind::attention), layers(4, 8));
  EXPECT_EQ(scopes(p, OpKind::native, "causal_conv"), layers(0, 1, 8));
  EXPECT_EQ(scopes(p, OpKind::native, "selective_scan"), layers(0, 1, 8));
  EXPECT_EQ(scopes(p, OpKind::experts), layers(1, 2));
  EXPECT_EQ(scopes(p, OpKind::activation), layers(0, 2));
  EXPECT_TRUE(scopes(p, OpKind::rope).empty());
  for (const auto* op : *p->ops())
    if (op->kind() == OpKind::router) {
      EXPECT_EQ(op->attrs_as_RouterAttrs()->norm(), program::RouterNorm::none);
    }
}

TEST_F(Jamba, ComputesTheKnownSizesOfThePublishedModel) {
  const auto p = build(published());
  const auto counts = program::count_parameters(*p);
  EXPECT_NEAR(static_cast<double>(counts.total), 51.57e9, 0.005e9);
  EXPECT_NEAR(static_cast<double>(counts.active), 11.84e9, 0.005e9);
  EXPECT_EQ(program::kv_bytes_per_token(*p, 2), 16384u);
  EXPECT_EQ(cache(p, "kv")->layers(), 4u);
  EXPECT_EQ(cache(p, "ssm")->layers(), 28u);
  EXPECT_EQ(cache(p, "ssm")->shape()->Get(0) * cache(p, "ssm")->shape()->Get(1), 8192u * 16);
  EXPECT_EQ(cache(p, "columns")->layers(), 28u);
  EXPECT_EQ(cache(p, "columns")->shape()->Get(0), 3u);
  EXPECT_EQ(cache(p, "columns")->shape()->Get(1), 8192u);
  EXPECT_EQ(program::state_bytes_per_sequence(*p), 28u * (8192 * 16 + 3 * 8192) * 4);
  EXPECT_THAT(program::print(*p), HasSubstr("51.57 B in all, 11.84 B active per token"));
  EXPECT_THAT(program::print(*p), HasSubstr("state per sequence 16.6 MiB"));
}

TEST_F(Jamba, MeansThePublishedModelWhereKeysOtherThanItsSizesAreAbsent) {
  const auto same = build(published());
  json::object sizes;
  for (const auto* key : {"architectures", "vocab_size", "hidden_size", "num_hidden_layers",
                          "num_attention_heads", "intermediate_size"})
    sizes[key] = published().at(key);
  const auto p = build(sizes);
  EXPECT_EQ(program::count_parameters(*p).total, program::count_parameters(*same).total);
  EXPECT_EQ(p->ops()->size(), same->ops()->size());
  EXPECT_EQ(program::state_bytes_per_sequence(*p), program::state_bytes_per_sequence(*same));
  EXPECT_EQ(p->facts()->context_tokens(), 262144u);
}

TEST_F(Jamba, BuildsTheLargeModelOfItsSecondGeneration) {
  auto c = published();
  c["hidden_size"] = 8192, c["intermediate_size"] = 24576, c["num_hidden_layers"] = 72;
  c["num_attention_heads"] = 64, c["mamba_dt_rank"] = 512, c["eos_token_id"] = {2, 518};
  const auto p = build(c);
  const auto counts = program::count_parameters(*p);
  EXPECT_NEAR(static_cast<double>(counts.total), 398e9, 2e9);
  EXPECT_NEAR(static_cast<double>(counts.active), 94e9, 1e9);
  EXPECT_EQ(scopes(p, OpKind::attention).size(), 9u);
  EXPECT_EQ(p->facts()->eos_ids()->Get(1), 518);
}

TEST_F(Jamba, TakesAutoForTheRankOfTheTimeStep) {
  for (const json::value& rank : {json::value("auto"), json::value(nullptr)}) {
    auto c = published();
    c["mamba_dt_rank"] = rank;
    EXPECT_EQ(weight(build(c), "model.layers.0.mamba.dt_proj.weight")->shape()->Get(1), 256u);
  }
  auto c = demo();
  c["hidden_size"] = 264, c["mamba_dt_rank"] = "auto";
  EXPECT_EQ(weight(build(c), "model.layers.0.mamba.dt_proj.weight")->shape()->Get(1), 17u) << "rounded up";
}

TEST_F(Jamba, FollowsOtherPatternsOfLayers) {
  auto c = demo();
  c["attn_layer_period"] = 2, c["attn_layer_offset"] = 0;
  c["expert_layer_period"] = 4, c["expert_layer_offset"] = 3;
  auto p = build(c);
  EXPECT_EQ(scopes(p, OpKind::attention).size(), 4u);
  EXPECT_EQ(scopes(p, OpKind::experts), (std::vector<std::string>{"model.layers.3", "model.layers.7"}));
  c["attn_layer_period"] = 1;
  p = build(c);
  EXPECT_EQ(scopes(p, OpKind::attention).size(), 8u);
  EXPECT_EQ(p->caches()->size(), 1u);
  EXPECT_EQ(program::state_bytes_per_sequence(*p), 0u);
  c["attn_layer_period"] = 100, c["attn_layer_offset"] = 99;
  p = build(c);
  EXPECT_TRUE(scopes(p, OpKind::attention).empty());
  EXPECT_EQ(program::kv_bytes_per_token(*p, 2), 0u);
}

TEST_F(Jamba, IsDenseEverywhereWithOneExpert) {
  auto c = demo();
  c["num_experts"] = 1;
  const auto p = build(c);
  EXPECT_TRUE(scopes(p, OpKind::experts).empty());
  EXPECT_TRUE(scopes(p, OpKind::router).empty());
  EXPECT_EQ(scopes(p, OpKind::activation).size(), 8u);
}

TEST_F(Jamba, ConvolvesWithoutABiasWhereTheConfigurationSaysSo) {
  auto c = demo();
  c["mamba_conv_bias"] = false;
  const auto p = build(c);
  EXPECT_THROW(weight(p, "model.layers.0.mamba.conv1d.bias"), std::runtime_error);
}

TEST_F(Jamba, BindsEveryTensorOfTheDemoCheckpointInPlace) {
  const auto p = build(demo());
  const auto files = checkpoint::weights::open(TROUPE_SOURCE_DIR "/demo/jamba-demo");
  ASSERT_TRUE(files) << files.error().text;
  std::uint64_t bytes = 0;
  for (const auto* w : *p->weights()) {
    const auto bound = checkpoint::bind(*w, **files);
    ASSERT_TRUE(bound) << bound.error().text;
    EXPECT_FALSE(bound->copied()) << w->name()->str();
    bytes += bound->planes.size() * bound->rows * bound->columns * 2;
  }
  EXPECT_EQ(bytes, (*files)->total_bytes()) << "no tensor of the checkpoint is left over";
}

TEST_F(Jamba, TakesStackedExpertsAsTransformersSavesThem) {
  const auto p = build(demo());
  for (const char* part : {"gate", "up", "down"}) {
    const auto* w = weight(p, std::string("model.layers.1.feed_forward.experts.") + part);
    ASSERT_EQ(w->spellings()->size(), 2u);
    EXPECT_EQ(w->spellings()->Get(0)->sources()->size(), 16u);
    EXPECT_THAT(
        w->spellings()->Get(1)->sources()->Get(0)->tensor()->str(),
        testing::EndsWith(std::string(part) == "down" ? ".experts.down_proj" : ".experts.gate_up_proj"));
  }
  const auto* up =
      weight(p, "model.layers.1.feed_forward.experts.up")->spellings()->Get(1)->sources()->Get(0);
  EXPECT_EQ(up->slice_begin(), 64u);
  EXPECT_EQ(up->slice_end(), 128u);
}

TEST_F(Jamba, ProbesTheTensorsThatTheReferenceRecorded) {
  const auto p = build(demo());
  std::set<std::string> probes;
  for (const auto* probe : *p->probes()) probes.insert(probe->name()->str());
  for (int i = 0; i <= 8; ++i) EXPECT_TRUE(probes.count("hidden_states." + std::to_string(i)));
  for (int i = 1; i < 8; i += 2)
    EXPECT_TRUE(probes.count("router.model.layers." + std::to_string(i) + ".feed_forward.router"));
  EXPECT_EQ(probes.size(), 9u + 4);
}

TEST_F(Jamba, UsesTheEmbeddingAsOutputWhenTied) {
  auto c = demo();
  c["tie_word_embeddings"] = true;
  const auto p = build(c);
  EXPECT_THROW(weight(p, "lm_head.weight"), std::runtime_error);
}

struct wrong_value {
  const char* key;
  json::value value;
  const char* text;
};

TEST_F(Jamba, NamesTheKeyWhoseValueIsImpossible) {
  const wrong_value cases[] = {
      {"hidden_size", 0, "hidden_size: expected an integer above 0, found 0"},
      {"num_hidden_layers", 5000, "num_hidden_layers: expected at most 4096, found 5000"},
      {"num_attention_heads", 7, "num_attention_heads: expected a divisor of hidden_size, found 7"},
      {"num_key_value_heads", 3, "num_key_value_heads: expected a divisor of num_attention_heads"},
      {"num_experts_per_tok", 17, "num_experts_per_tok: expected at most num_experts"},
      {"attn_layer_offset", 8, "attn_layer_offset: expected a number below attn_layer_period 8, found 8"},
      {"expert_layer_offset", 2,
       "expert_layer_offset: expected a number below expert_layer_period 2, found 2"},
      {"mamba_dt_rank", "large", "mamba_dt_rank: expected an integer"},
      {"mamba_dt_rank", 0, "mamba_dt_rank: expected an integer above 0"},
      {"mamba_conv_bias", "yes", "mamba_conv_bias: expected true or false, found \"yes\""},
      {"rms_norm_eps", 0, "rms_norm_eps: expected a number above 0, found 0"},
  };
  for (const auto& wrong : cases) {
    auto c = demo();
    c[wrong.key] = wrong.value;
    EXPECT_THAT(build_error(c), HasSubstr(wrong.text));
  }
}

TEST_F(Jamba, RefusesVariantsThatItDoesNotBuild) {
  const wrong_value cases[] = {
      {"hidden_act", "gelu", "hidden_act: expected \"silu\", found \"gelu\""},
      {"mamba_proj_bias", true, "mamba_proj_bias: expected false, found true"},
      {"sliding_window", 4096, "sliding_window: expected null"},
  };
  for (const auto& wrong : cases) {
    auto c = demo();
    c[wrong.key] = wrong.value;
    EXPECT_THAT(build_error(c, error_code::unsupported), HasSubstr(wrong.text));
  }
}

TEST_F(Jamba, RefusesSizesThatItsOwnOpsDoNotTake) {
  auto c = demo();
  c["mamba_d_conv"] = 1;
  EXPECT_THAT(build_error(c), HasSubstr("mamba_d_conv: expected a number from 2 to 64, found 1"));
  c = demo();
  c["mamba_d_state"] = 300;
  EXPECT_THAT(build_error(c), HasSubstr("mamba_d_state: expected a number from 1 to 256, found 300"));
}

TEST_F(Jamba, RefusesNumbersThatOverflow) {
  auto c = demo();
  c["mamba_expand"] = 4294967295u;
  EXPECT_THAT(build_error(c), HasSubstr("mamba_expand: expected at most 2147483647, found 4294967295"));
}

}  // namespace
}  // namespace troupe
