#include <gmock/gmock.h>

#include "kernel/program/print.hpp"
#include "tests/support/module_fixture.hpp"

namespace troupe {
namespace {

namespace json = boost::json;
using testing::AnyOf;
using testing::HasSubstr;

struct mixtral {
  static constexpr const char* name = "mixtral";
};
class Mixtral : public test::module_fixture<mixtral> {};

TEST_F(Mixtral, TellsTheFactsOfTheDemoModel) {
  const auto p = build(demo());
  const auto& f = *p->facts();
  EXPECT_EQ(f.architecture()->str(), "MixtralForCausalLM");
  EXPECT_EQ(f.vocabulary(), 4096u);
  EXPECT_EQ(f.hidden(), 256u);
  EXPECT_EQ(f.layers(), 6u);
  EXPECT_EQ(f.context_tokens(), 32768u);
  EXPECT_EQ(f.bos_id(), 1);
  EXPECT_EQ(f.eos_ids()->Get(0), 2);
  EXPECT_EQ(p->ops()->size(), 4u + 6 * 14);
  EXPECT_EQ(program::kv_bytes_per_token(*p, 2), 6u * 2 * 2 * 32 * 2);
  EXPECT_THAT(program::print(*p), HasSubstr("model.layers.0  (to model.layers.5: 6 alike)"));
}

TEST_F(Mixtral, ComputesTheKnownSizeOfMixtral8x7B) {
  auto c = demo();
  c["hidden_size"] = 4096, c["num_hidden_layers"] = 32, c["num_attention_heads"] = 32,
  c["num_key_value_heads"] = 8;
  c["intermediate_size"] = 14336, c["vocab_size"] = 32000;
  const auto p = build(c);
  const auto counts = program::count_parameters(*p);
  EXPECT_EQ(counts.total, 46'702'792'704u);
  EXPECT_NEAR(static_cast<double>(counts.active), 12.75e9, 0.01e9);
  EXPECT_EQ(program::kv_bytes_per_token(*p, 2), 131072u);
}

TEST_F(Mixtral, BindsEveryTensorOfTheDemoCheckpointInPlace) {
  const auto p = build(demo());
  const auto files = checkpoint::weights::open(demo_folder());
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

// A checkpoint of one small layer in the spelling that transformers v5 saves.
TEST_F(Mixtral, BindsTheStackedSpellingInPlace) {
  auto c = demo();
  c["hidden_size"] = 8, c["num_hidden_layers"] = 1, c["num_attention_heads"] = 2,
  c["num_key_value_heads"] = 1;
  c["intermediate_size"] = 4, c["vocab_size"] = 16, c["num_local_experts"] = 2;
  const auto p = build(c);
  const auto tensor = [](const std::string& name, std::vector<std::uint64_t> shape) {
    std::uint64_t n = 1;
    for (const auto d : shape) n *= d;
    return test::bf16_tensor(name, std::move(shape), std::vector<float>(n, 1));
  };
  const std::string layer = "model.layers.0.";
  std::vector<float> gate_up;
  for (int i = 0; i < 2 * 8 * 8; ++i) gate_up.push_back(static_cast<float>(i));
  test::temp_folder folder;
  test::write_safetensors(
      folder.path() / "model.safetensors",
      {tensor("model.embed_tokens.weight", {16, 8}), tensor("model.norm.weight", {8}),
       tensor("lm_head.weight", {16, 8}), tensor(layer + "input_layernorm.weight", {8}),
       tensor(layer + "post_attention_layernorm.weight", {8}),
       tensor(layer + "self_attn.q_proj.weight", {8, 8}), tensor(layer + "self_attn.k_proj.weight", {4, 8}),
       tensor(layer + "self_attn.v_proj.weight", {4, 8}), tensor(layer + "self_attn.o_proj.weight", {8, 8}),
       tensor(layer + "mlp.gate.weight", {2, 8}),
       test::bf16_tensor(layer + "mlp.experts.gate_up_proj", {2, 8, 8}, gate_up),
       tensor(layer + "mlp.experts.down_proj", {2, 8, 4})});
  const auto files = checkpoint::weights::open(folder.path());
  ASSERT_TRUE(files) << files.error().text;
  for (const auto* w : *p->weights()) {
    const auto bound = checkpoint::bind(*w, **files);
    ASSERT_TRUE(bound) << bound.error().text;
    EXPECT_FALSE(bound->copied()) << w->name()->str();
  }
  const auto up = checkpoint::bind(*weight(p, layer + "mlp.experts.up"), **files);
  const auto* stored = (*files)->find(layer + "mlp.experts.gate_up_proj");
  EXPECT_EQ(up->planes[0], stored->data.data() + 4 * 8 * 2) << "up stands behind the gate's rows";
  EXPECT_EQ(up->planes[1], stored->data.data() + (8 + 4) * 8 * 2);
}

TEST_F(Mixtral, ProbesTheTensorsThatTheReferenceRecorded) {
  const auto p = build(demo());
  const auto known = probes(p);
  const auto routers = recorded_routers();
  EXPECT_EQ(routers.size(), 6u);
  for (const auto& name : routers) EXPECT_TRUE(known.count(name)) << name;
  for (int i = 0; i <= 6; ++i) EXPECT_TRUE(known.count("hidden_states." + std::to_string(i)));
  for (const auto* probe : *p->probes()) {
    const auto* tensor = p->tensors()->Get(probe->tensor());
    EXPECT_EQ(tensor->rows(), program::Rows::tokens);
    EXPECT_EQ(tensor->shape()->Get(0), probe->name()->str()[0] == 'h' ? 256u : 8u);
  }
}

TEST_F(Mixtral, UsesTheEmbeddingAsOutputWhenTied) {
  auto c = demo();
  c["tie_word_embeddings"] = true;
  const auto p = build(c);
  EXPECT_THROW(weight(p, "lm_head.weight"), std::runtime_error);
  EXPECT_EQ(p->ops()->Get(p->ops()->size() - 1)->weights()->Get(0), p->ops()->Get(0)->weights()->Get(0));
}

TEST_F(Mixtral, ReadsThetaWhereEitherGenerationWritesIt) {
  auto c = demo();
  EXPECT_EQ(op(build(c), program::OpKind::rope)->attrs_as_RopeAttrs()->theta(), 1e6);
  c.erase("rope_theta");
  EXPECT_EQ(op(build(c), program::OpKind::rope)->attrs_as_RopeAttrs()->theta(), 1e6);
  c["rope_parameters"] = {{"rope_theta", 5e5}, {"rope_type", "default"}};
  EXPECT_EQ(op(build(c), program::OpKind::rope)->attrs_as_RopeAttrs()->theta(), 5e5);
}

TEST_F(Mixtral, TakesHeadSizeFromTheConfigurationIfItIsThere) {
  auto c = demo();
  c["head_dim"] = 64;
  const auto p = build(c);
  const auto* a = op(p, program::OpKind::attention)->attrs_as_AttentionAttrs();
  EXPECT_EQ(a->head_dim(), 64u);
  EXPECT_FLOAT_EQ(a->scale(), 0.125f);
}

TEST_F(Mixtral, IgnoresTheSlidingWindow) {
  auto c = demo();
  c["sliding_window"] = 4096;
  EXPECT_EQ(build(c)->caches()->Get(0)->window(), 0u);
}

TEST_F(Mixtral, AcceptsSeveralEndsOfSequenceAndNone) {
  auto c = demo();
  c["eos_token_id"] = {2, 7};
  EXPECT_EQ(build(c)->facts()->eos_ids()->size(), 2u);
  c["eos_token_id"] = nullptr;
  c["bos_token_id"] = nullptr;
  const auto p = build(c);
  EXPECT_EQ(p->facts()->eos_ids(), nullptr);
  EXPECT_EQ(p->facts()->bos_id(), -1);
}

TEST_F(Mixtral, NamesTheKeyThatIsMissing) {
  for (const char* key :
       {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_local_experts",
        "num_experts_per_tok", "intermediate_size", "max_position_embeddings"}) {
    auto c = demo();
    c.erase(key);
    EXPECT_EQ(build_error(c),
              std::string("config.json: ") + key + ": the key is missing (module mixtral 1.0.0)");
    c[key] = 0;
    EXPECT_THAT(build_error(c), HasSubstr(std::string(key) + ": expected an integer above 0, found 0"));
    c[key] = "8";
    EXPECT_THAT(build_error(c),
                HasSubstr(std::string(key) + ": expected an integer from 0 to 4294967295, found \"8\""));
  }
}

struct wrong_value {
  const char* key;
  json::value value;
  const char* text;
};

TEST_F(Mixtral, NamesTheKeyWhoseValueIsImpossible) {
  const wrong_value cases[] = {
      {"num_attention_heads", 7, "num_attention_heads: expected a divisor of hidden_size, found 7"},
      {"num_key_value_heads", 3, "num_key_value_heads: expected a divisor of num_attention_heads, found 3"},
      {"head_dim", 33, "head_dim: expected an even number, found 33"},
      {"num_experts_per_tok", 9, "num_experts_per_tok: expected at most num_local_experts, found 9"},
      {"rms_norm_eps", 0, "rms_norm_eps: expected a number above 0, found 0"},
      {"rope_theta", -1, "rope_theta: expected a number above 0, found -1"},
      {"tie_word_embeddings", "no", "tie_word_embeddings: expected true or false, found \"no\""},
      {"eos_token_id", "</s>", "eos_token_id: expected an integer"},
  };
  for (const auto& wrong : cases) {
    auto c = demo();
    c[wrong.key] = wrong.value;
    EXPECT_THAT(build_error(c), HasSubstr(wrong.text));
  }
}

TEST_F(Mixtral, RefusesVariantsThatItDoesNotBuild) {
  const wrong_value cases[] = {
      {"hidden_act", "gelu", "hidden_act: expected \"silu\", found \"gelu\""},
      {"rope_scaling", json::object{{"type", "dynamic"}},
       "rope_scaling.type: expected default, linear, llama3 or yarn, found \"dynamic\""},
      {"rope_parameters", json::object{{"rope_theta", 1e6}, {"rope_type", "longrope"}},
       "rope_parameters.rope_type: expected default, linear, llama3 or yarn, found \"longrope\""},
  };
  for (const auto& wrong : cases) {
    auto c = demo();
    c[wrong.key] = wrong.value;
    EXPECT_THAT(build_error(c, error_code::unsupported), HasSubstr(wrong.text));
  }
}

TEST_F(Mixtral, RefusesNumbersThatOverflow) {
  auto c = demo();
  c["num_attention_heads"] = 65536, c["num_key_value_heads"] = 65536, c["head_dim"] = 65536;
  EXPECT_NE(build_error(c, error_code::bad_program), "no error");
  c = demo();
  c["intermediate_size"] = 4294967295u;
  EXPECT_THAT(build_error(c), HasSubstr("intermediate_size: expected at most 2147483647, found 4294967295"));
  c = demo();
  c["num_hidden_layers"] = 4097;
  EXPECT_THAT(build_error(c), HasSubstr("num_hidden_layers: expected at most 4096, found 4097"));
  c["num_hidden_layers"] = 4096, c["num_local_experts"] = 4096;
  // Under the thread sanitizer the cell's time is up before.
  EXPECT_THAT(build_error(c, error_code::bad_module),
              AnyOf(HasSubstr("weight: more than 1048576 tensors in all"), HasSubstr("of processor time")));
}

}  // namespace
}  // namespace troupe
