#include "kernel/program/diff.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "tests/support/native_program.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::program {
namespace {

using test::tiny_program;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

verified_program verified(const ProgramT& program) {
  auto out = verify(tiny_program::bytes(program));
  if (!out) throw std::runtime_error(out.error().text);
  return *out;
}

// The tiny Program against the same one, changed.
class Diff : public testing::Test {
 protected:
  difference diff_now() const { return diff(*verified(tiny_program::make()), *verified(after_)); }
  std::string text_now() const { return print(diff_now()); }
  WeightT& weight(const std::string& name) {
    for (auto& w : after_.weights)
      if (w->name == name) return *w;
    throw std::runtime_error("no weight " + name);
  }
  OpT& op(OpKind kind, const std::string& scope, int skip = 0) {
    for (auto& o : after_.ops)
      if (o->kind == kind && o->scope == scope && skip-- == 0) return *o;
    throw std::runtime_error("no such op");
  }
  std::uint32_t tensor(std::uint64_t columns) {
    auto t = std::make_unique<TensorT>();
    t->shape = {columns};
    after_.tensors.push_back(std::move(t));
    return static_cast<std::uint32_t>(after_.tensors.size() - 1);
  }
  // x + x behind the embedding: the op that follows reads it instead.
  void insert_an_add_behind_the_embedding() {
    auto o = std::make_unique<OpT>();
    o->kind = OpKind::add;
    o->inputs = {after_.ops[0]->outputs[0], after_.ops[0]->outputs[0]};
    o->outputs = {tensor(tiny_program::hidden)};
    after_.ops[1]->inputs = o->outputs;
    after_.ops.insert(after_.ops.begin() + 1, std::move(o));
  }
  ProgramT after_ = tiny_program::make();
};

TEST_F(Diff, FindsAProgramEqualToItself) {
  const auto d = diff_now();
  EXPECT_TRUE(d.equal());
  EXPECT_TRUE(d.keeps_caches());
  EXPECT_EQ(d.shared.weights, after_.weights.size());
  EXPECT_EQ(d.shared.bytes, 2u * 5840);
  EXPECT_EQ(text_now(), "no difference\n");
}

TEST_F(Diff, DoesNotCareForNumbersOfTensorsAndWeights) {
  auto& ids = after_;
  const auto last = static_cast<std::uint32_t>(ids.weights.size() - 1);
  std::swap(ids.weights[0], ids.weights[last]);
  const auto tensors = static_cast<std::uint32_t>(ids.tensors.size() - 1);
  ASSERT_EQ(ids.logits, tensors);
  std::swap(ids.tensors[1], ids.tensors[2]);
  const auto swap = [](std::vector<std::uint32_t>& all, std::uint32_t a, std::uint32_t b) {
    for (auto& id : all) id = id == a ? b : id == b ? a : id;
  };
  for (auto& o : ids.ops) {
    swap(o->weights, 0, last);
    swap(o->inputs, 1, 2);
    swap(o->outputs, 1, 2);
  }
  EXPECT_TRUE(diff_now().equal()) << text_now();
}

TEST_F(Diff, NamesTheFactsThatChange) {
  after_.facts->context_tokens = 128;
  after_.facts->eos_ids = {2, 3};
  const auto d = diff_now();
  EXPECT_FALSE(d.equal());
  ASSERT_THAT(d.facts, SizeIs(2));
  EXPECT_EQ(d.facts[0].field, "context_tokens");
  EXPECT_EQ(d.facts[0].before, "64");
  EXPECT_EQ(d.facts[1].after, "[2, 3]");
  EXPECT_THAT(text_now(), HasSubstr("  context_tokens  64 -> 128\n"));
  EXPECT_THAT(text_now(), HasSubstr("all kept: running sequences go on\n"));
}

TEST_F(Diff, TellsAWeightThatIsStoredElsewhereFromOneWithACommonSpelling) {
  weight("norm").spellings[0]->sources[0]->tensor = "final_norm";
  auto more = std::make_unique<SpellingT>(*weight("lm_head").spellings[0]);
  more->sources[0]->tensor = "output.weight";
  weight("lm_head").spellings.push_back(std::move(more));
  const auto d = diff_now();
  ASSERT_THAT(d.weights, SizeIs(2));
  EXPECT_EQ(d.weights[0].what, "stored elsewhere");
  EXPECT_EQ(d.weights[0].fate, weight_fate::loaded);
  EXPECT_EQ(d.weights[1].fate, weight_fate::perhaps);
  EXPECT_EQ(d.loaded.weights, 1u);
  EXPECT_EQ(d.loaded.bytes, 2u * 16);
  EXPECT_EQ(d.perhaps.bytes, 2u * 32 * 16);
  EXPECT_THAT(d.ops, IsEmpty()) << "the ops are the same";
  EXPECT_THAT(text_now(), HasSubstr("~ norm  stored elsewhere: norm -> final_norm\n"));
  EXPECT_THAT(text_now(), HasSubstr("~ lm_head  stored elsewhere: lm_head -> lm_head or output.weight\n"));
}

TEST_F(Diff, SharesAWeightThatIsOnlyRenamed) {
  weight("norm").name = "final_norm";
  const auto d = diff_now();
  ASSERT_THAT(d.weights, SizeIs(1));
  EXPECT_EQ(d.weights[0].what, "renamed");
  EXPECT_EQ(d.shared.weights, after_.weights.size());
  EXPECT_THAT(d.ops, IsEmpty());
}

TEST_F(Diff, LoadsAWeightThatIsReshapedOrMayNowBeQuantized) {
  for (const char* name : {"layers.0.gate", "layers.0.up"}) weight(name).shape[1] = 12;
  weight("layers.0.down").shape[2] = 12;
  weight("lm_head").quantizable = !weight("lm_head").quantizable;
  const auto d = diff_now();
  ASSERT_THAT(d.weights, SizeIs(4));
  EXPECT_EQ(d.weights[0].what, "reshaped");
  EXPECT_EQ(d.weights[3].what, "declared otherwise");
  EXPECT_EQ(d.loaded.weights, 4u);
  EXPECT_THAT(text_now(), HasSubstr("~ layers.*.gate  reshaped: [4, 8, 16] -> [4, 12, 16]\n"));
}

TEST_F(Diff, FoldsWhatChangesInEveryLayer) {
  for (const char* layer : {"layers.0", "layers.1"}) {
    weight(layer + std::string(".q")).spellings[0]->sources[0]->tensor = layer + std::string(".query");
    op(OpKind::experts, layer).attrs.AsExpertsAttrs()->activation = Activation::gelu;
  }
  const auto text = text_now();
  EXPECT_THAT(text, HasSubstr("  ~ layers.*.q  stored elsewhere: layers.*.q -> layers.*.query  x 2\n"));
  EXPECT_THAT(
      text, HasSubstr("  layers.0  (to layers.1: 2 alike)\n    ~ experts gate, up, down  activation silu; "));
  const auto full = print(diff_now(), false);
  EXPECT_THAT(full, HasSubstr("  layers.1\n"));
  EXPECT_THAT(full, Not(HasSubstr("alike")));
}

TEST_F(Diff, FindsAttributesThatChange) {
  op(OpKind::rope, "layers.1").attrs.AsRopeAttrs()->theta = 500000;
  const auto d = diff_now();
  ASSERT_THAT(d.ops, SizeIs(1));
  EXPECT_EQ(d.ops[0].scope, "layers.1");
  EXPECT_THAT(d.ops[0].before, HasSubstr("theta 10000"));
  EXPECT_THAT(d.ops[0].after, HasSubstr("theta 500000"));
  EXPECT_TRUE(d.keeps_caches());
  EXPECT_THAT(text_now(), HasSubstr("was computed by the first Program's ops"));
}

TEST_F(Diff, FindsAnOpThatIsAddedAndWhoReadsItNow) {
  insert_an_add_behind_the_embedding();
  const auto d = diff_now();
  ASSERT_THAT(d.ops, SizeIs(2)) << text_now();
  EXPECT_EQ(d.ops[0].before, "");
  EXPECT_THAT(d.ops[0].after, HasSubstr("add  [T, 16], [T, 16] -> [T, 16]"));
  EXPECT_EQ(d.ops[1].before, "rms_norm norm_1  of embed embed (outside of layers)");
  EXPECT_EQ(d.ops[1].after, "rms_norm norm_1  of add (outside of layers)");
}

TEST_F(Diff, FindsAnOpThatIsGone) {
  const auto with = [&] {
    insert_an_add_behind_the_embedding();
    return verified(after_);
  }();
  const auto d = diff(*with, *verified(tiny_program::make()));
  ASSERT_THAT(d.ops, SizeIs(2));
  EXPECT_THAT(d.ops[0].before, HasSubstr("add  "));
  EXPECT_EQ(d.ops[0].after, "");
}

TEST_F(Diff, FindsInputsThatAreSwapped) {
  auto& add = op(OpKind::add, "layers.0");
  std::swap(add.inputs[0], add.inputs[1]);
  const auto d = diff_now();
  ASSERT_THAT(d.ops, SizeIs(1));
  EXPECT_EQ(d.ops[0].before, "add  of embed embed (outside of layers), linear o");
  EXPECT_EQ(d.ops[0].after, "add  of linear o, embed embed (outside of layers)");
}

TEST_F(Diff, FindsCacheLayersThatAreSwapped) {
  op(OpKind::attention, "layers.0").attrs.AsAttentionAttrs()->cache_layer = 1;
  op(OpKind::attention, "layers.1").attrs.AsAttentionAttrs()->cache_layer = 0;
  const auto d = diff_now();
  ASSERT_THAT(d.ops, SizeIs(2));
  EXPECT_EQ(d.ops[0].before, "attention  cache layer 0");
  EXPECT_EQ(d.ops[0].after, "attention  cache layer 1");
}

TEST_F(Diff, KnowsNativeOpsByTheirNameAndVersion) {
  const auto before = verified(test::make_native_program());
  EXPECT_TRUE(diff(*before, *before).equal());
  auto program = test::make_native_program();
  ++program.ops[1]->attrs.AsNativeAttrs()->version;
  const auto d = diff(*before, *verified(program));
  ASSERT_THAT(d.ops, SizeIs(1));
  EXPECT_THAT(d.ops[0].before, HasSubstr("native tally norm_1  tally version 2"));
  EXPECT_THAT(d.ops[0].after, HasSubstr("tally version 3"));
  program.ops[1]->attrs.AsNativeAttrs()->op = "count";
  EXPECT_THAT(diff(*before, *verified(program)).ops[0].before, HasSubstr("native tally"));
  EXPECT_THAT(diff(*before, *verified(program)).ops[1].after, HasSubstr("native count"));
}

TEST_F(Diff, SaysWhyACacheIsNotKept) {
  after_.caches[0]->name = "keys_and_values";
  auto d = diff_now();
  EXPECT_FALSE(d.keeps_caches());
  ASSERT_THAT(d.caches, SizeIs(2));
  EXPECT_THAT(d.caches[0].why, HasSubstr("the second Program has none"));
  EXPECT_THAT(print(d), HasSubstr("not kept: the second Program has none of this name"));
  EXPECT_THAT(print(d), HasSubstr("computed again from their tokens"));
  after_.caches[0]->name = "kv";
  after_.caches[0]->dtype = DType::bf16;
  d = diff_now();
  ASSERT_THAT(d.caches, SizeIs(1));
  EXPECT_EQ(d.caches[0].why, "another dtype");
}

TEST_F(Diff, KeepsACacheWhoseWindowNarrowsOnly) {
  after_.caches[0]->window = 16;
  EXPECT_TRUE(diff_now().keeps_caches());
  EXPECT_FALSE(diff_now().equal());
  const auto back = diff(*verified(after_), *verified(tiny_program::make()));
  EXPECT_FALSE(back.keeps_caches());
  EXPECT_THAT(back.caches[0].why, HasSubstr("positions that may be gone"));
}

TEST_F(Diff, FindsProbesThatMoveComeAndGo) {
  after_.probes[0]->tensor = after_.ops[0]->outputs[0];
  after_.probes[1]->name = "answers";
  const auto d = diff_now();
  ASSERT_THAT(d.probes, SizeIs(3));
  EXPECT_EQ(d.probes[0].field, "answers");
  EXPECT_EQ(d.probes[0].before, "");
  EXPECT_EQ(d.probes[1].field, "hidden");
  EXPECT_EQ(d.probes[1].after, "embed embed");
  EXPECT_EQ(d.probes[2].after, "");
  EXPECT_THAT(text_now(), HasSubstr("probes (3 differ)\n  answers  none -> linear lm_head\n"));
}

TEST_F(Diff, IsOneJsonObjectForScripts) {
  after_.caches[0]->window = 16;
  after_.facts->context_tokens = 128;
  weight("norm").spellings[0]->sources[0]->tensor = "final_norm";
  op(OpKind::experts, "layers.0").attrs.AsExpertsAttrs()->activation = Activation::gelu;
  const auto root = boost::json::parse(print_json(diff_now()));
  EXPECT_FALSE(root.at("equal").as_bool());
  EXPECT_EQ(root.at("facts").at(0).at("fact").as_string(), "context_tokens");
  EXPECT_EQ(root.at("weights").at(0).at("fate").as_string(), "loaded");
  EXPECT_TRUE(root.at("caches").at(0).at("kept").as_bool());
  EXPECT_EQ(root.at("ops").at(0).at("scope").as_string(), "layers.0");
  EXPECT_TRUE(root.at("swap").at("keeps_caches").as_bool());
  EXPECT_EQ(root.at("swap").at("loaded").at("bytes_bf16").to_number<int>(), 32);
}

}  // namespace
}  // namespace troupe::program
