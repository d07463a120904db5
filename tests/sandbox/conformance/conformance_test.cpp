// The shipped modules keep all rules; a module that breaks one fails in the group that is about it.
#include "sandbox/conformance/conformance.hpp"

#include <gmock/gmock.h>

#include "kernel/modules/stage.hpp"
#include "sandbox/conformance/subject.hpp"
#include "tests/sandbox/conformance/segmentation_fault.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::conformance {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path build_folder = TROUPE_BINARY_DIR;
const fs::path source_folder = TROUPE_SOURCE_DIR;

// "group: case: text" of all failures, one a line.
std::string failures(const check::report& r) {
  std::string all;
  for (const auto& g : r.groups) {
    if (!g.blocked().empty()) all += g.name() + ": " + g.blocked() + "\n";
    for (const auto& f : g.failures()) all += g.name() + ": " + f.name + ": " + f.text + "\n";
  }
  return all;
}

class Conformance : public testing::Test {
 protected:
  result<check::report> judge(const fs::path& module, const std::vector<fs::path>& configs,
                              std::optional<fs::path> checkpoint = {}) {
    auto trusted = modules::trust_shipped();
    if (const auto bytes = modules::read_library(module))
      trusted.listed.add({"sha256", modules::sha256_hex(*bytes), "for this test"});
    const auto store = modules::store::open(folder_.path() / "store", {.trusted = trusted});
    options o;
    o.module = module;
    o.configs = configs;
    o.checkpoint = std::move(checkpoint);
    o.backend = build_folder / "lib" / "libtroupe-cpu.so";
    o.limits = limits_;
    return run(o, *store);
  }

  // What is found in a module that breaks one rule.
  std::string faults_of(const std::string& fault) {
    const auto config =
        folder_.write("config.json", R"({"fault": ")" + fault + R"(", "hidden_size": 16, "context": 64})");
    const auto report = judge(FAULTY_MODULE, {config});
    return report ? failures(*report) : report.error().text;
  }

  void expect_shipped(const std::string& name) {
    const auto report = judge(build_folder / "lib/troupe/modules" / (name + ".so"), {},
                              source_folder / "demo" / (name + "-demo"));
    ASSERT_TRUE(report) << report.error().text;
    EXPECT_TRUE(report->ok()) << failures(*report);
  }

  test::temp_folder folder_;
  sandbox::cell_limits limits_ = options().limits;
};

TEST_F(Conformance, IsKeptByMixtral) {
  expect_shipped("mixtral");
}
TEST_F(Conformance, IsKeptByDbrx) {
  expect_shipped("dbrx");
}
TEST_F(Conformance, IsKeptByJamba) {
  expect_shipped("jamba");
}
TEST_F(Conformance, IsKeptByAModuleWithoutFault) {
  EXPECT_EQ(faults_of("none"), "");
}

TEST_F(Conformance, AsksForErrorsThatNameTheKey) {
  EXPECT_THAT(faults_of("silent"), HasSubstr("mistakes: "));
  EXPECT_THAT(faults_of("silent"),
              HasSubstr("expected a refusal that names hidden_size, found: something is wrong"));
  EXPECT_THAT(faults_of("crashes"), HasSubstr("crashed: Aborted (SIGABRT)"));
}

TEST_F(Conformance, IsNotContentWithAnyKeysName) {
  EXPECT_THAT(
      faults_of("names_another_key"),
      HasSubstr(
          "hidden_size = \"text\": expected a refusal that names hidden_size, found: context: whatever"));
  EXPECT_THAT(
      faults_of("names_a_key_that_it_does_not_read"),
      HasSubstr(
          "hidden_size = -17: expected a refusal that names hidden_size, found: architectures: not mine"));
}

TEST_F(Conformance, AsksThatMistakesInKeysThatAreReadAreRefused) {
  const auto found = faults_of("takes_anything");
  EXPECT_THAT(found, HasSubstr("context = \"text\": expected a refusal that names context, found a Program"));
  EXPECT_THAT(found, HasSubstr("context = -65: expected a refusal that names context, found a Program"));
  EXPECT_THAT(found, HasSubstr("context = 6.45E1: expected a refusal that names context, found a Program"));
  EXPECT_THAT(found, HasSubstr("context = 0: bad Program: facts: context_tokens"));
  EXPECT_THAT(faults_of("rounds"), HasSubstr("context = 6.45E1: expected a refusal that names context"));
}

TEST_F(Conformance, AsksForTheSameProgramEachTime) {
  EXPECT_THAT(faults_of("restless"), HasSubstr("built again: expected the same bytes"));
}

TEST_F(Conformance, AsksThatWhatIsDeclaredIsUsed) {
  EXPECT_THAT(faults_of("unused_cache"), HasSubstr("for_nothing"));
  EXPECT_THAT(faults_of("idle_op"), HasSubstr("nothing uses what it computes"));
  EXPECT_THAT(faults_of("wrong_architecture"), HasSubstr("architecture is AnotherForCausalLM"));
}

TEST_F(Conformance, AsksForTheSameBitsHoweverASequenceIsCut) {
  EXPECT_THAT(faults_of("forgets"), HasSubstr("batches: "));
  EXPECT_THAT(faults_of("forgets"), HasSubstr("chunks of 1: sequence 0: position 1"));
}

TEST_F(Conformance, AsksThatSequencesDoNotHearOfEachOther) {
  EXPECT_THAT(faults_of("remembers"), HasSubstr("states: "));
}

TEST_F(Conformance, WatchesWhatNativeOpsWrite) {
  EXPECT_THAT(faults_of("leaves_output"), HasSubstr("output y: does not write element"));
  EXPECT_THAT(faults_of("writes_beyond"),
              testing::AnyOf(HasSubstr("output y: writes beside it"), HasSubstr("touches what it may not"),
                             ends_with_a_segmentation_fault()));
  EXPECT_THAT(faults_of("touches_others"),
              HasSubstr("state rows: changes that of a sequence which has no rows"));
}

TEST_F(Conformance, SurvivesNativeOpsThatCrash) {
  const auto found = faults_of("crashes_in_op");
  EXPECT_THAT(found, HasSubstr("reference: "));
  EXPECT_THAT(found, HasSubstr("each sequence alone, 2 thread(s), fast operations: "));
  EXPECT_THAT(found, ends_with_a_segmentation_fault());
  EXPECT_THAT(found, HasSubstr("batches: "));
  EXPECT_THAT(found, HasSubstr("states: "));
  EXPECT_THAT(found, HasSubstr("(native crashes_in_op, layers.0): "));
}

TEST_F(Conformance, SurvivesNativeOpsThatEndTheProcess) {
  EXPECT_THAT(faults_of("exits_in_op"), HasSubstr("fast operations: ended its process with code 0"));
}

TEST_F(Conformance, EndsNativeOpsThatDoNotEnd) {
  limits_.cpu = std::chrono::seconds(1);
  const auto found = faults_of("loops_in_op");
  EXPECT_THAT(found, HasSubstr("fast operations: timed out: used 1 s of processor time"));
  EXPECT_THAT(found, HasSubstr("(native loops_in_op, layers.0): timed out: used 1 s of processor time"));
}

TEST_F(Conformance, ShowsTheWordsOfAnOpFitForTerminalsAndJson) {
  const auto found = faults_of("mumbles");
  for (const char* group : {"reference: ", "batches: ", "states: "}) EXPECT_THAT(found, HasSubstr(group));
  EXPECT_THAT(found, HasSubstr("op 1 (native mumbles, layers.0): not ? UTF-8  [31m\n"));
  EXPECT_THAT(found, HasSubstr("(native mumbles, layers.0): fails: not ? UTF-8  [31m\n"));
}

TEST_F(Conformance, FailsAGroupWhoseFindingsCannotBeRead) {
  options o;
  const auto group = apart(subject(o, nullptr, {}), "states", [](const subject& s) {
    s.alive("a case");
    check::group g("states");
    g.fail("a case", "not \xff UTF-8");
    return g;
  });
  ASSERT_EQ(group.failures().size(), 1u);
  EXPECT_EQ(group.failures()[0].name, "a case");
  EXPECT_THAT(group.failures()[0].text, HasSubstr("expected the findings of the group as JSON"));
}

TEST_F(Conformance, DoesNotRunNativeOpsThatNobodyTrusts) {
  const auto config = folder_.write("config.json", R"({"fault": "none", "hidden_size": 16, "context": 64})");
  options o;
  o.module = FAULTY_MODULE;
  o.configs = {config};
  o.backend = build_folder / "lib" / "libtroupe-cpu.so";
  const auto report = run(o, *modules::store::open(folder_.path() / "store"));
  ASSERT_TRUE(report) << report.error().text;
  EXPECT_THAT(failures(*report), HasSubstr("troupe module trust add"));
  EXPECT_THAT(failures(*report), HasSubstr("guards: "));
  EXPECT_THAT(failures(*report), testing::Not(HasSubstr("programs: ")))
      << "what runs in the cell needs no trust";
}

TEST_F(Conformance, IsNotPassedWithoutAnyConfiguration) {
  const auto report = judge(FAULTY_MODULE, {});
  ASSERT_TRUE(report) << report.error().text;
  EXPECT_FALSE(report->ok());
  std::vector<std::string> judged, blocked;
  for (const auto& g : report->groups) (g.blocked().empty() ? judged : blocked).push_back(g.name());
  EXPECT_THAT(judged, testing::ElementsAre("table", "mistakes"));
  EXPECT_THAT(blocked, testing::ElementsAre("programs", "laws", "reference", "batches", "states", "guards"));
  EXPECT_THAT(check::to_text(*report, 5),
              HasSubstr("programs: needs a configuration: give --config or --checkpoint"));
}

TEST_F(Conformance, SaysWhichConfigurationCannotBeRead) {
  EXPECT_THAT(judge(build_folder / "lib/troupe/modules/mixtral.so", {"/nowhere/config.json"}).error().text,
              HasSubstr("/nowhere/config.json: cannot be read"));
  const auto bad = folder_.write("bad.json", "{");
  EXPECT_THAT(judge(build_folder / "lib/troupe/modules/mixtral.so", {bad}).error().text,
              HasSubstr("bad.json: expected JSON"));
}

}  // namespace
}  // namespace troupe::conformance
