#include "sandbox/conformance/configs.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <map>
#include <set>

namespace troupe::conformance {
namespace {

namespace json = boost::json;

const json::value config = json::parse(
    R"({"hidden_size": 64, "name": "x", "tie": false, "rope": {"theta": 1e4, "factor": 8}, "list": [1, 2]})");

std::map<std::string, json::value> by_name(const std::vector<variant>& all) {
  std::map<std::string, json::value> out;
  for (const auto& v : all) EXPECT_TRUE(out.emplace(v.name, v.config).second) << v.name << " comes twice";
  return out;
}

TEST(Neighbours, AreTwiceAndHalfOfEachWholeNumber) {
  const auto all = by_name(neighbours(config));
  EXPECT_EQ(all.size(), 4u);
  EXPECT_EQ(all.at("hidden_size = 128").at("hidden_size"), 128);
  EXPECT_EQ(all.at("rope.factor = 4").at("rope").at("factor"), 4);
  EXPECT_EQ(all.at("rope.factor = 4").at("hidden_size"), 64) << "one thing at a time";
}

TEST(Mistakes, TakeEachKeyAwayAndChangeItsType) {
  const auto all = by_name(mistakes(config));
  EXPECT_FALSE(all.at("without rope.theta").at("rope").as_object().contains("theta"));
  EXPECT_EQ(all.at("hidden_size = \"text\"").at("hidden_size"), "text");
  EXPECT_EQ(all.at("hidden_size = -65").at("hidden_size"), -65);
  EXPECT_EQ(all.at("hidden_size = 6.45E1").at("hidden_size"), 64.5);
  EXPECT_EQ(all.at("name = 7").at("name"), 7);
  EXPECT_EQ(all.at("tie = \"yes\"").at("tie"), "yes");
  std::set<std::string> keys;
  for (const auto& v : mistakes(config)) keys.insert(std::string(last_part(v.key)));
  EXPECT_THAT(keys, testing::ElementsAre("factor", "hidden_size", "list", "name", "theta", "tie"));
}

TEST(OtherValues, AreThoseThatAConfigurationMayHave) {
  const auto all = by_name(other_values(config));
  EXPECT_EQ(all.at("hidden_size = 128").at("hidden_size"), 128);
  EXPECT_EQ(all.at("rope.factor = 16").at("rope").at("factor"), 16);
  EXPECT_EQ(all.at("tie = true").at("tie"), true);
  for (const auto& v : other_values(config)) EXPECT_EQ(v.what, change::other_value);
}

TEST(Extremes, AreTheEndsOfWhatNumbersCanBe) {
  const auto all = by_name(extremes(config));
  EXPECT_EQ(all.at("hidden_size = 0").at("hidden_size"), 0);
  EXPECT_EQ(all.at("hidden_size = 2147483648").at("hidden_size"), 2147483648);
  EXPECT_EQ(all.at("hidden_size = 4294967295").at("hidden_size"), 4294967295);
  EXPECT_EQ(all.at("hidden_size = 1E300").at("hidden_size"), 1e300);
  EXPECT_EQ(all.at("hidden_size = 1E-300").at("hidden_size"), 1e-300);
}

TEST(Shrink, MakesEachNumberAsSmallAsItMayBe) {
  const auto small =
      shrink(json::parse(R"({"hidden": 4096, "heads": 32, "layers": 80, "top_k": 2, "text": "x"})"),
             [](const json::value& c) {
               return c.at("hidden").to_number<int>() % c.at("heads").to_number<int>() == 0 &&
                      c.at("layers").to_number<int>() >= 10;
             });
  EXPECT_EQ(small.at("hidden"), 64);
  EXPECT_EQ(small.at("heads"), 8);
  EXPECT_EQ(small.at("layers"), 16);
  EXPECT_EQ(small.at("top_k"), 2);
  EXPECT_EQ(small.at("text"), "x");
}

TEST(Shrink, LeavesWhatCannotBeSmaller) {
  EXPECT_EQ(shrink(config, [](const json::value&) { return false; }), config);
}

}  // namespace
}  // namespace troupe::conformance
