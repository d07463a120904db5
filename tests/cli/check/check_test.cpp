// A check must notice what is wrong: each test spoils one thing and expects to hear of it.
#include "cli/check/check.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "cli/check/goldens.hpp"
#include "kernel/config/paths.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::check {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const fs::path source = TROUPE_SOURCE_DIR;

std::string read_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

class Check : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = own_.path();
    fs::copy(source / "tests/golden/mixtral", goldens(),
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    const auto paths = config::install_at(TROUPE_BINARY_DIR);
    options_.model = source / "demo/mixtral-demo";
    options_.goldens = goldens();
    options_.runner.library = paths.backend("cpu");
    const auto store = modules::store::open(folder_ / "store");
    ASSERT_TRUE(store);
    ASSERT_THAT(registry_.add_folder(*store, paths.modules), IsEmpty());
  }

  fs::path goldens() const { return folder_ / "mixtral"; }

  // Rewrites one of the golden files.
  void spoil(const std::string& file, const std::function<void(json::value&)>& change) const {
    json::value v = json::parse(read_file(goldens() / file));
    change(v);
    std::ofstream(goldens() / file, std::ios::binary) << json::serialize(v);
  }
  // One short prompt of prompts.json.
  void spoil_prompt(const std::function<void(json::object&)>& change) const {
    spoil("prompts.json", [&](json::value& v) {
      for (json::value& p : v.at("prompts").as_array())
        if (p.at("id").as_string() == "chat_capital") change(p.as_object());
    });
  }
  report run(std::vector<std::string> only) {
    options_.only = std::move(only);
    options_.prompts = {"chat_capital", "chat_hello"};
    auto r = check::run(options_, registry_);
    EXPECT_TRUE(r) << (r ? "" : r.error().text);
    return r ? std::move(*r) : report{};
  }
  static const group& of(const report& r, std::string_view name) {
    for (const group& g : r.groups)
      if (g.name() == name) return g;
    ADD_FAILURE() << "no group " << name;
    static const group none("none");
    return none;
  }

  test::temp_folder own_;
  fs::path folder_;
  options options_;
  modules::registry registry_;
};

TEST_F(Check, PassesWithTheReferenceAsItIs) {
  const report r = run({});
  EXPECT_TRUE(r.ok()) << to_text(r, 3);
  EXPECT_EQ(r.architecture, "MixtralForCausalLM");
}

TEST_F(Check, LeavesOutGroupsWithoutReferenceOutputsAndSaysSo) {
  for (const char* file : {"tokenizer_cases.json", "template_cases.json", "states.safetensors"})
    fs::remove(goldens() / file);
  options_.prompts = {"text_king"};
  const auto r = check::run(options_, registry_);
  ASSERT_TRUE(r) << r.error().text;
  EXPECT_TRUE(r->ok()) << to_text(*r, 3);
  EXPECT_THAT(r->left_out,
              ElementsAre("template (no template_cases.json)", "states (no states.safetensors)"));
  EXPECT_EQ(of(*r, "tokenizer").cases(), 1U) << "the prompt's own text";
  EXPECT_THAT(of(*r, "tokenizer").remark(), HasSubstr("no tokenizer_cases.json"));
  EXPECT_FALSE(run({"template"}).ok()) << "asked for by name";
}

TEST_F(Check, NoticesAWrongTokenId) {
  spoil("tokenizer_cases.json", [](json::value& v) { v.at("strings").at(1).at("ids").as_array()[0] = 99; });
  const report r = run({"tokenizer"});
  EXPECT_FALSE(r.ok());
  EXPECT_EQ(of(r, "tokenizer").failures().size(), 1U);
}

TEST_F(Check, NoticesAWrongRendering) {
  spoil("template_cases.json",
        [](json::value& v) { v.at("templates").at(0).at("rendered") = "something else"; });
  EXPECT_EQ(of(run({"template"}), "template").failures().size(), 1U);
}

TEST_F(Check, NoticesATemplateErrorThatSaysSomethingElse) {
  spoil("template_cases.json", [](json::value& v) {
    for (json::value& c : v.at("templates").as_array())
      if (c.as_object().contains("error")) c.at("error") = "TemplateError: quite another reason";
  });
  EXPECT_FALSE(run({"template"}).ok());
}

TEST_F(Check, NoticesALogitBeyondTheTolerance) {
  spoil_prompt([](json::object& p) {
    json::value& logit = p.at("fp32").at("last_top20_logits").as_array()[3];
    logit = logit.to_number<double>() + 0.002;
  });
  const report r = run({"logits"});
  const group& g = of(r, "logits");
  EXPECT_EQ(g.failures().size(), 1U);
  EXPECT_NEAR(g.largest(), 0.002, 5e-4);
  EXPECT_TRUE(of(r, "prompt logprobs").ok());
}

TEST_F(Check, NoticesAPromptLogprobBeyondTheTolerance) {
  spoil_prompt([](json::object& p) { p.at("fp32").at("prompt_logprobs").as_array()[2] = -1.0; });
  EXPECT_EQ(of(run({"logits"}), "prompt logprobs").failures().size(), 1U);
}

TEST_F(Check, NoticesAnotherGreedyTokenWhereTheMarginIsWide) {
  spoil_prompt([](json::object& p) {
    p.at("fp32").at("greedy_ids").as_array()[2] = 17;
    p.at("fp32").at("greedy_margin").as_array()[2] = 0.5;
  });
  const report r = run({"greedy"});
  ASSERT_EQ(of(r, "greedy").failures().size(), 1U);
  EXPECT_THAT(of(r, "greedy").failures()[0].text, HasSubstr("step 2: expected token 17"));
}

TEST_F(Check, ReportsANearTieWithBothLogitsAndGoesOn) {
  spoil_prompt([](json::object& p) {
    p.at("fp32").at("greedy_ids").as_array()[20] = 17;
    p.at("fp32").at("greedy_margin").as_array()[20] = 0.0001;
  });
  const report r = run({"greedy"});
  EXPECT_TRUE(r.ok()) << to_text(r, 3);
  ASSERT_EQ(of(r, "greedy").near_ties().size(), 1U);
  const near_tie& t = of(r, "greedy").near_ties()[0];
  EXPECT_EQ(t.step, 20U);
  EXPECT_EQ(t.expected, 17);
  EXPECT_NE(t.expected_logit, t.found_logit);
  EXPECT_THAT(to_text(r, 3), HasSubstr("near-tie at step 20"));
}

TEST_F(Check, NoticesAnAnswerWithoutWhatItMustContain) {
  spoil_prompt([](json::object& p) { p.at("expect") = "London"; });
  const report r = run({"greedy"});
  EXPECT_TRUE(of(r, "greedy").ok());
  EXPECT_FALSE(of(r, "answers").ok());
}

TEST_F(Check, MissingReferenceFileFailsItsGroupsAndNamesIt) {
  fs::remove(goldens() / "states.safetensors");
  const report r = run({"states", "tokenizer"});
  EXPECT_FALSE(r.ok());
  EXPECT_TRUE(of(r, "tokenizer").ok());
  EXPECT_THAT(of(r, "states").blocked(), HasSubstr("states.safetensors"));
}

TEST_F(Check, BrokenReferenceFileIsNamed) {
  std::ofstream(goldens() / "template_cases.json") << "{\"templates\": [{]";
  EXPECT_THAT(of(run({"template"}), "template").blocked(), HasSubstr("template_cases.json"));
}

TEST_F(Check, ArchitectureWithoutAModuleFailsTheModelGroupsOnly) {
  registry_ = {};
  const report r = run({"tokenizer", "logits", "greedy"});
  EXPECT_FALSE(r.ok());
  EXPECT_TRUE(of(r, "tokenizer").ok());
  EXPECT_EQ(of(r, "logits").blocked(), "no module for MixtralForCausalLM (loaded: none)");
  EXPECT_EQ(of(r, "greedy").blocked(), of(r, "logits").blocked());
}

TEST_F(Check, UnknownGroupNamesTheNearest) {
  options_.only = {"gredy"};
  const auto r = check::run(options_, registry_);
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().text, HasSubstr("did you mean greedy?"));
}

TEST_F(Check, UnknownPromptNamesTheNearest) {
  options_.prompts = {"chat_capitol"};
  const auto r = check::run(options_, registry_);
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().text, HasSubstr("did you mean chat_capital?"));
}

TEST_F(Check, WithoutReferenceChecksFilesProgramWeightsAndARun) {
  options_.goldens.reset();
  const auto r = check::run(options_, registry_);
  ASSERT_TRUE(r);
  EXPECT_TRUE(r->ok()) << to_text(*r, 3);
  ASSERT_EQ(r->groups.size(), 4U);
  EXPECT_GT(of(*r, "weights").cases(), 10U);
}

TEST_F(Check, WithoutReferenceNoticesATruncatedWeightFile) {
  const auto copy = folder_ / "model";
  fs::copy(options_.model, copy, fs::copy_options::recursive);
  fs::resize_file(copy / "model.safetensors", fs::file_size(copy / "model.safetensors") - 1000);
  options_.model = copy;
  options_.goldens.reset();
  const auto r = check::run(options_, registry_);
  ASSERT_TRUE(r);
  EXPECT_FALSE(r->ok());
  EXPECT_THAT(to_text(*r, 3), HasSubstr("model.safetensors"));
  EXPECT_TRUE(of(*r, "program").ok());
}

TEST(CheckGroup, WithoutACaseHasNotPassed) {
  EXPECT_FALSE(group("empty").ok());
  EXPECT_FALSE(report{}.ok());
}

TEST(CheckGroup, ANotANumberIsBeyondEveryTolerance) {
  group g("g", 1.0);
  EXPECT_TRUE(g.within(0.5));
  EXPECT_FALSE(g.within(std::nan("")));
  g.pass();
  report r;
  r.groups.push_back(g);
  EXPECT_NO_THROW(json::parse(json::serialize(to_json(r)))) << "infinity has no JSON";
}

TEST(CheckReport, ShowsAFewFailuresAndCountsTheRest) {
  group g("tokenizer");
  for (int i = 0; i < 9; ++i) g.fail("case " + std::to_string(i), "expected this, found that");
  report r;
  r.groups.push_back(g);
  const std::string text = to_text(r, 2);
  EXPECT_THAT(text, HasSubstr("case 1: expected this, found that"));
  EXPECT_THAT(text, HasSubstr("7 more failures"));
  EXPECT_THAT(text, HasSubstr("1 of 1 groups failed"));
}

}  // namespace
}  // namespace troupe::check
