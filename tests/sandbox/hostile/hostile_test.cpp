// Each hostile module gets its verdict, and this process goes on.
#include <gmock/gmock.h>

#include <cctype>
#include <chrono>

#include "sandbox/cell/cell.hpp"
#include "tests/sandbox/hostile/cases.hpp"

namespace troupe::sandbox {

namespace {

using testing::HasSubstr;

class Hostile : public testing::TestWithParam<test::hostile_case> {};

cell_limits limits_for(const test::hostile_case& c) {
  cell_limits limits;
  limits.cpu = std::chrono::seconds(sanitized() ? 5 : 1);
  const std::string_view module = c.module;
  limits.wall =
      module == "sleeps" || module == "hides_and_loops" ? std::chrono::seconds(1) : std::chrono::seconds(60);
  return limits;
}

TEST_P(Hostile, GetsItsVerdict) {
  const auto& c = GetParam();
  if (test::sanitizer_answers_instead(c)) GTEST_SKIP() << "the sanitizer answers instead of the cell";
  const auto report = run_cell(installed_cell(), std::string(HOSTILE_MODULES "/") + c.module + ".so",
                               c.config, limits_for(c));
  ASSERT_FALSE(report) << "was accepted";
  const verdict& v = report.error();
  EXPECT_EQ(name_of(v.kind), name_of(c.expected)) << v.text;
  EXPECT_THAT(v.text, HasSubstr(c.text));
  EXPECT_THAT(v.function, HasSubstr(c.function)) << v.text;
  if (*c.call != '\0') {
    EXPECT_EQ(v.call, c.call) << v.text;
  }
}

std::string test_name(const testing::TestParamInfo<test::hostile_case>& info) {
  std::string name = fmt::format("{:02}_", info.index);
  for (const char letter : std::string(info.param.module) + info.param.config)
    if (std::isalnum(static_cast<unsigned char>(letter)) != 0 || letter == '_') name += letter;
  return name;
}
INSTANTIATE_TEST_SUITE_P(Modules, Hostile, testing::ValuesIn(test::hostile_cases()), test_name);

TEST(HostileModules, AreAtLeastTwenty) {
  EXPECT_GE(test::hostile_cases().size(), 20u);
}

TEST(HostileModules, AreJudgedBesideOneThatIsRight) {
  const auto report = run_cell(installed_cell(), HOSTILE_MODULES "/programs.so", R"({"program": "right"})");
  ASSERT_TRUE(report) << report.error().text;
  EXPECT_TRUE(report->program);
}

}  // namespace
}  // namespace troupe::sandbox
