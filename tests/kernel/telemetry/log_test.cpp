#include "kernel/telemetry/log.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace troupe;
namespace fs = std::filesystem;

class Log : public testing::Test {
 protected:
  void TearDown() override {
    ASSERT_TRUE(log::configure({}));
    fs::remove(file_);
  }
  void to_file(log::format form, log::level least = log::level::info) {
    log::settings wanted;
    wanted.file = file_;
    wanted.form = form;
    wanted.least = least;
    ASSERT_TRUE(log::configure(wanted));
  }
  std::vector<std::string> lines() const {
    std::ifstream in(file_);
    std::vector<std::string> all;
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  fs::path file_ = fs::temp_directory_path() / ("troupe-log-" + std::to_string(getpid()) + ".log");
};

TEST_F(Log, WritesFieldsAsKeyAndValue) {
  const std::string name = "mixtral";
  EXPECT_EQ(log::text_line("executor", "model loaded",
                           {{"model", name}, {"bytes", 15u}, {"ms", 1.5}, {"ok", true}}),
            "executor      model loaded  model=mixtral bytes=15 ms=1.5 ok=true");
}

TEST_F(Log, QuotesTextThatWouldBreakALine) {
  EXPECT_EQ(log::text_line("x", "y", {{"path", "a b"}, {"bad", "1\n2"}, {"none", ""}}),
            "x             y  path=\"a b\" bad=\"1\\n2\" none=\"\"");
}

TEST_F(Log, WritesOneJsonObjectPerLine) {
  to_file(log::format::json);
  log::warning("gateway", "bad \"frame\"\x01",
               {{"client", "\t"}, {"bytes", -3}, {"share", 0.25}, {"dropped", false}});
  const auto all = lines();
  ASSERT_EQ(all.size(), 1u);
  const auto object = boost::json::parse(all[0]).as_object();
  EXPECT_EQ(object.at("level"), "warning");
  EXPECT_EQ(object.at("component"), "gateway");
  EXPECT_EQ(object.at("message"), "bad \"frame\"\x01");
  EXPECT_EQ(object.at("client"), "\t");
  EXPECT_EQ(object.at("bytes"), -3);
  EXPECT_EQ(object.at("share"), 0.25);
  EXPECT_EQ(object.at("dropped"), false);
  EXPECT_EQ(object.at("time").as_string().size(), 24u);
}

TEST_F(Log, WritesNumbersThatJsonLacksAsNull) {
  const auto line =
      log::json_line(log::level::info, "t", "c", "m", {{"x", std::numeric_limits<double>::quiet_NaN()}});
  EXPECT_TRUE(boost::json::parse(line).as_object().at("x").is_null());
}

TEST_F(Log, DropsLinesBelowTheLevel) {
  to_file(log::format::text, log::level::warning);
  log::debug("a", "not this");
  log::info("a", "nor this");
  log::warning("a", "this");
  log::error("a", "and this");
  EXPECT_EQ(lines().size(), 2u);
  to_file(log::format::text, log::level::off);
  log::error("a", "nothing");
  EXPECT_EQ(lines().size(), 2u);
}

TEST_F(Log, UsesNoColourInAFile) {
  to_file(log::format::text);
  log::error("a", "plain");
  ASSERT_EQ(lines().size(), 1u);
  EXPECT_EQ(lines()[0].find('\x1b'), std::string::npos);
  EXPECT_NE(lines()[0].find(" error "), std::string::npos);
}

TEST_F(Log, KeepsLinesOfThreadsApart) {
  to_file(log::format::json);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < 100; ++i) log::info("t", "line", {{"thread", t}, {"i", i}});
    });
  for (auto& t : threads) t.join();
  const auto all = lines();
  ASSERT_EQ(all.size(), 400u);
  for (const auto& line : all) EXPECT_TRUE(boost::json::parse(line).is_object());
}

TEST_F(Log, RefusesAFileThatCannotBeWrittenAndGoesOn) {
  to_file(log::format::text);
  log::settings wanted;
  wanted.file = file_ / "below-a-file" / "x.log";
  const auto outcome = log::configure(wanted);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, error_code::not_found);
  EXPECT_NE(outcome.error().text.find("below-a-file"), std::string::npos);
  log::info("a", "still here");
  EXPECT_EQ(lines().size(), 1u);
}

TEST_F(Log, NamesTheNearestLevel) {
  ASSERT_TRUE(log::parse_level("debug"));
  EXPECT_EQ(*log::parse_level("off"), log::level::off);
  const auto wrong = log::parse_level("warn1ng");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, error_code::bad_config);
  EXPECT_NE(wrong.error().text.find("did you mean \"warning\""), std::string::npos);
}

}  // namespace
