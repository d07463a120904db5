// default.toml is the documentation of the configuration: it lists each key once, with its default.
#include <gtest/gtest.h>
#include <toml++/toml.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "kernel/config/config.hpp"

namespace {

using namespace troupe;

std::string default_toml() {
  std::ifstream in(TROUPE_SOURCE_DIR "/kernel/config/default.toml");
  return {std::istreambuf_iterator<char>(in), {}};
}

// The file with its commented [[model]] block made real.
std::string with_model() {
  std::string text = default_toml();
  const auto block = text.find("# [[model]]");
  EXPECT_NE(block, std::string::npos);
  std::string head = text.substr(0, block), rest = text.substr(block), made;
  for (std::size_t i = 0; i < rest.size();) {
    const auto end = std::min(rest.find('\n', i), rest.size() - 1);
    std::string line = rest.substr(i, end - i + 1);
    made += line.starts_with("# ") ? line.substr(2) : line;
    i = end + 1;
  }
  return head + made;
}

TEST(DefaultToml, HoldsTheDefaults) {
  const auto outcome = config::parse(default_toml(), "default.toml", "/");
  ASSERT_TRUE(outcome) << outcome.error().text;
  EXPECT_EQ(*outcome, config::configuration{});
}

TEST(DefaultToml, ListsEachKeyInTheOrderOfTheTable) {
  const toml::table root = toml::parse(with_model());
  std::vector<std::pair<toml::source_index, std::string>> found;
  for (const auto& [section, node] : root) {
    const toml::table* table = node.is_array() ? node.as_array()->get(0)->as_table() : node.as_table();
    ASSERT_NE(table, nullptr);
    for (const auto& [name, item] : *table)
      found.emplace_back(name.source().begin.line,
                         std::string(section.str()) + "." + std::string(name.str()));
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> names;
  for (const auto& [line, name] : found) names.push_back(name);
  EXPECT_EQ(names, config::known_keys());
}

TEST(DefaultToml, ExplainsEachKeyInTheLineAbove) {
  const std::string text = default_toml();
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < text.size();) {
    const auto end = std::min(text.find('\n', i), text.size());
    lines.push_back(text.substr(i, end - i));
    i = end + 1;
  }
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const bool sets_a_key = lines[i].find(" = ") != std::string::npos && !lines[i].starts_with("#");
    EXPECT_TRUE(!sets_a_key || lines[i - 1].starts_with("# ")) << lines[i];
  }
}

TEST(DefaultToml, ShowsAModelThatParses) {
  const auto outcome = config::parse(with_model(), "default.toml", "/base");
  ASSERT_TRUE(outcome) << outcome.error().text;
  ASSERT_EQ(outcome->models.size(), 1u);
  EXPECT_EQ(outcome->models[0].path, "/base/checkpoints/my-model");
}

}  // namespace
