#include "kernel/program/print.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "tests/support/tiny_program.hpp"

namespace troupe::program {
namespace {

using test::tiny_program;
using testing::HasSubstr;
using testing::Not;

verified_program verified(const ProgramT& program) {
  auto out = verify(tiny_program::bytes(program));
  if (!out) throw std::runtime_error(out.error().text);
  return *out;
}

TEST(Print, TellsFactsCountsAndCacheBytes) {
  const auto text = print(*verified(tiny_program::make()));
  EXPECT_THAT(text, HasSubstr("TinyForCausalLM"));
  EXPECT_THAT(text, HasSubstr("vocabulary 32, hidden 16, layers 2, context 64 tokens"));
  EXPECT_THAT(text, HasSubstr("parameters 5840 in all, 3712 active per token"));
  EXPECT_THAT(text, HasSubstr("cache per token 128 B as f32 (CPU), 64 B as bf16"));
  EXPECT_THAT(text, HasSubstr("weights 11.4 KiB as bf16"));
  EXPECT_THAT(text, Not(HasSubstr("state per sequence")));
}

TEST(Print, FoldsLayersThatRepeat) {
  const auto text = print(*verified(tiny_program::make()));
  EXPECT_THAT(text, HasSubstr("layers.0  (to layers.1: 2 alike)"));
  EXPECT_THAT(text, HasSubstr("layers.*.gate"));
  EXPECT_THAT(text, HasSubstr("[T, 16], [T, 8], [T, 8] -> [T, 16]"));
  const auto unfolded = print(*verified(tiny_program::make()), {.fold_layers = false});
  EXPECT_THAT(unfolded, HasSubstr("layers.1.gate"));
  EXPECT_THAT(unfolded, Not(HasSubstr("alike")));
}

TEST(Print, ShowsALayerThatDiffersOnItsOwn) {
  auto program = tiny_program::make();
  for (auto& op : program.ops)
    if (op->scope == "layers.1" && op->kind == OpKind::experts)
      op->attrs.AsExpertsAttrs()->activation = Activation::gelu;
  EXPECT_THAT(print(*verified(program)), Not(HasSubstr("alike")));
}

TEST(Print, LeavesOutWeightsWhenAsked) {
  EXPECT_THAT(print(*verified(tiny_program::make()), {.weights = false}), Not(HasSubstr("weights (")));
}

// Where a checkpoint has the weight `index`.
SourceT& source_of(ProgramT& program, std::size_t weight) {
  return *program.weights.at(weight)->spellings.at(0)->sources.at(0);
}

TEST(Print, SaysWhereWeightsStandInTheCheckpoint) {
  auto program = tiny_program::make();
  EXPECT_THAT(print(*verified(program)), Not(HasSubstr("\n      ="))) << "each under its own name";
  source_of(program, 0).tensor = "wte";
  source_of(program, 0).reshape = {32, 16};
  std::size_t gates = 0;
  for (auto& weight : program.weights) {
    if (weight->name.find(".gate") == weight->name.npos) continue;
    ++gates;
    const std::string layer = weight->name.substr(0, weight->name.rfind('.'));
    auto stacked = std::make_unique<SpellingT>(*weight->spellings[0]);
    stacked->sources[0]->tensor = layer + ".gate_up";
    stacked->sources[0]->slice_axis = 1;
    stacked->sources[0]->slice_end = 8;
    auto& each = *weight->spellings[0];
    each.combine = Combine::stack;
    each.sources.clear();
    for (int i = 0; i < 4; ++i) {
      each.sources.push_back(std::make_unique<SourceT>());
      each.sources.back()->tensor = layer + ".experts." + std::to_string(i) + ".w1";
    }
    weight->spellings.push_back(std::move(stacked));
  }
  ASSERT_EQ(gates, 2u);
  const auto text = print(*verified(program));
  EXPECT_THAT(text, HasSubstr("\n      = wte as [32, 16]\n"));
  EXPECT_THAT(text, HasSubstr("  x 2\n"
                              "      = stack of 4: layers.*.experts.0.w1 to layers.*.experts.3.w1\n"
                              "      or layers.*.gate_up [0 to 8 of axis 1]\n"));
  EXPECT_THAT(print(*verified(program), {.fold_layers = false}),
              HasSubstr("      or layers.1.gate_up [0 to 8 of axis 1]"));
}

TEST(Print, ShowsLayersApartThatAreStoredDifferently) {
  auto program = tiny_program::make();
  for (std::size_t i = 0; i < program.weights.size(); ++i)
    if (program.weights[i]->name == "layers.1.q") source_of(program, i).tensor = "layers.1.query";
  const auto text = print(*verified(program));
  EXPECT_THAT(text, HasSubstr("      = layers.*.query\n"));
}

TEST(Print, TellsTheCachesDtypeAndTheChatTemplate) {
  auto program = tiny_program::make();
  EXPECT_THAT(print(*verified(program)), HasSubstr("2 heads x 4\n"));
  program.caches[0]->dtype = DType::bf16;
  program.facts->chat_template = "{{ messages }}";
  const auto text = print(*verified(program));
  EXPECT_THAT(text, HasSubstr("2 heads x 4, bf16\n"));
  EXPECT_THAT(text, HasSubstr("chat template of 14 bytes"));
}

TEST(PrintJson, CarriesWhatTheTextLeavesOut) {
  auto program = tiny_program::make();
  auto root = boost::json::parse(print_json(*verified(program)));
  EXPECT_TRUE(root.at("facts").at("chat_template").is_null());
  EXPECT_EQ(root.at("caches").at(0).at("dtype").as_string(), "none");
  EXPECT_FALSE(root.at("tensors").at(0).as_object().contains("name"));
  program.facts->chat_template = "{{ messages }}";
  program.caches[0]->dtype = DType::f32;
  program.tensors[0]->name = "x";
  root = boost::json::parse(print_json(*verified(program)));
  EXPECT_EQ(root.at("facts").at("chat_template").as_string(), "{{ messages }}");
  EXPECT_EQ(root.at("caches").at(0).at("dtype").as_string(), "f32");
  EXPECT_EQ(root.at("tensors").at(0).at("name").as_string(), "x");
}

TEST(PrintJson, CarriesEveryOpAndWeight) {
  const auto program = tiny_program::make();
  const auto root = boost::json::parse(print_json(*verified(program)));
  EXPECT_EQ(root.at("facts").at("parameters").to_number<std::uint64_t>(), 5840u);
  EXPECT_EQ(root.at("ops").as_array().size(), program.ops.size());
  EXPECT_EQ(root.at("weights").as_array().size(), program.weights.size());
  EXPECT_EQ(root.at("ops").at(1).at("kind").as_string(), "rms_norm");
  EXPECT_EQ(root.at("weights").at(0).at("spellings").at(0).at("sources").at(0).at("tensor").as_string(),
            "embed");
  EXPECT_EQ(root.at("probes").as_array().size(), program.probes.size());
}

}  // namespace
}  // namespace troupe::program
