#include <gmock/gmock.h>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/modules/modules.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::modules {
namespace {

using testing::HasSubstr;

class Build : public testing::Test {
 protected:
  result<program::verified_program> build(const std::string& file, std::string_view config) {
    const auto s = store::open(folder_.path());
    const auto m = s->load(file);
    if (!m) throw std::runtime_error(m.error().text);
    return (*m)->build(config);
  }
  std::string build_error(const std::string& name, error_code code, std::string_view config = "{}") {
    const auto program = build(std::string(TEST_MODULES "/") + name + ".so", config);
    if (program) return "no error";
    EXPECT_EQ(program.error().code, code) << program.error().text;
    return program.error().text;
  }
  test::temp_folder folder_;
};

TEST_F(Build, GivesTheProgramOfTheDemoModelWhichOutlivesItsModule) {
  const auto config = checkpoint::read_config(TROUPE_SOURCE_DIR "/demo/mixtral-demo");
  ASSERT_TRUE(config) << config.error().text;
  const auto program = build(TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so", config->config_json);
  ASSERT_TRUE(program) << program.error().text;
  EXPECT_EQ((*program)->facts()->vocabulary(), 4096u);
  EXPECT_EQ((*program)->facts()->layers(), 6u);
}

TEST_F(Build, GivesTheProgramOfAModuleInPlainC) {
  const auto program = build(TEST_MODULES "/minimal_c.so", R"({"vocab_size": 100, "hidden_size": 24})");
  ASSERT_TRUE(program) << program.error().text;
  EXPECT_EQ((*program)->facts()->vocabulary(), 100u);
  EXPECT_EQ((*program)->ops()->size(), 3u);
  EXPECT_EQ(build_error("minimal_c", error_code::bad_checkpoint, R"({"vocab_size": 100})"),
            "config.json: hidden_size: expected a number above 0 (module minimal 1.0.0)");
}

TEST_F(Build, TurnsStatusIntoTypedErrors) {
  EXPECT_EQ(build_error("unsupported", error_code::unsupported),
            "config.json: some_key: not built here (module table 1.0.0)");
  EXPECT_EQ(build_error("unknown_status", error_code::bad_module),
            "module table 1.0.0: the build failed: something new");
  EXPECT_EQ(build_error("fails_silently", error_code::bad_module),
            "module table 1.0.0: the build failed: without a reason");
  EXPECT_EQ(build_error("fails_but_says_ok", error_code::bad_checkpoint),
            "config.json: some_key: wrong (module table 1.0.0)");
}

TEST_F(Build, RefusesAnythingButExactlyOneProgram) {
  EXPECT_THAT(build_error("emits_nothing", error_code::bad_module),
              HasSubstr("the build succeeded but emitted no Program"));
  EXPECT_THAT(build_error("emits_twice", error_code::bad_module), HasSubstr("emitted more than one Program"));
  EXPECT_THAT(build_error("emits_null", error_code::bad_module), HasSubstr("emitted null"));
}

TEST_F(Build, PassesOnWhatTheVerifierSays) {
  EXPECT_THAT(build_error("emits_garbage", error_code::bad_program),
              HasSubstr("module table 1.0.0: program: expected a FlatBuffer"));
}

TEST_F(Build, SurvivesExceptionsThatCrossTheInterface) {
  EXPECT_EQ(build_error("throws", error_code::bad_module),
            "module throws 1.0.0: an exception crossed the interface: thrown in the module");
  EXPECT_EQ(build_error("throws", error_code::bad_module, ""),
            "module throws 1.0.0: an exception crossed the interface");
}

}  // namespace
}  // namespace troupe::modules
