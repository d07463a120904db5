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
  EXPECT_THAT(text, HasSubstr("parameters 5840 in all, 3808 active per token"));
  EXPECT_THAT(text, HasSubstr("cache per token 128 B as f32, 64 B as bf16"));
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
