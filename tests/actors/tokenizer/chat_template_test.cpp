// The template interpreter against python3-jinja2 (run by the test), and against the recorded template cases.
#include "actors/tokenizer/chat_template.hpp"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdio>

#include "tests/actors/tokenizer/text_support.hpp"

namespace troupe::text {
namespace {
namespace json = boost::json;

const std::string source_folder = TROUPE_SOURCE_DIR;

struct outcome {
  std::string text;
  int status = 0;
};

outcome run_command(const std::string& command) {
  std::FILE* pipe = popen(command.c_str(), "r");
  outcome out;
  if (pipe == nullptr) return {"cannot start " + command, -1};
  char block[1 << 16];
  while (const std::size_t n = std::fread(block, 1, sizeof block, pipe)) out.text.append(block, n);
  out.status = pclose(pipe);
  return out;
}

// What the reference makes of every template and every snippet.
const outcome& reference() {
  static const outcome all = [] {
    const std::string here = source_folder + "/tests/actors/tokenizer/";
    std::string command =
        "/usr/bin/python3 " + here + "jinja_oracle.py " + here + "templates " + here + "snippets.txt";
    for (const char* model : {"mixtral", "dbrx", "jamba"}) {
      command += " " + source_folder + "/demo/" + model + "-demo/tokenizer_config.json";
    }
    return run_command(command + " 2>&1");
  }();
  return all;
}

result<std::string> render(const std::string& source, const json::object& variables) {
  const auto parsed = chat_template::parse(source);
  if (!parsed) return fail(parsed.error());
  return parsed->render(variables);
}

void compare(const json::object& c) {
  const auto ours = render(std::string(c.at("source").as_string()), c.at("variables").as_object());
  if (const auto* rendered = c.if_contains("rendered")) {
    ASSERT_TRUE(ours) << ours.error().text;
    EXPECT_EQ(*ours, std::string(rendered->as_string()));
    return;
  }
  const std::string wanted(c.at("error").as_string());
  const std::string_view kind = c.at("kind").as_string();
  ASSERT_FALSE(ours) << "the reference fails with " << kind << ": " << wanted << "; ours gives\n" << *ours;
  if (kind == "TemplateError") {
    EXPECT_EQ(ours.error().text, wanted);
    EXPECT_EQ(ours.error().code, error_code::template_failed);
  }
  if (kind == "UndefinedError") {
    EXPECT_TRUE(ours.error().text.ends_with(": " + wanted)) << ours.error().text;
  }
  if (kind == "TemplateSyntaxError") {
    EXPECT_EQ(ours.error().code, error_code::bad_checkpoint) << ours.error().text;
  }
}

void compare_all(bool snippets) {
  const outcome& all = reference();
  ASSERT_EQ(all.status, 0)
      << "the reference interpreter of this test needs /usr/bin/python3 with the package "
         "python3-jinja2 (apt-get install python3-jinja2); it said:\n"
      << all.text;
  std::size_t compared = 0;
  const json::value cases = json::parse(all.text);
  for (const auto& entry : cases.as_array()) {
    const json::object& c = entry.as_object();
    if ((c.at("set").as_string() == "snippets") != snippets) continue;
    SCOPED_TRACE(std::string(c.at("name").as_string()) + " with " + std::string(c.at("set").as_string()) +
                 "\n" + (snippets ? std::string(c.at("source").as_string()) : ""));
    compare(c);
    ++compared;
  }
  EXPECT_GE(compared, 150u);
}

TEST(ChatTemplate, RendersWholeTemplatesAsJinja2Does) {
  compare_all(false);
}
TEST(ChatTemplate, RendersSnippetsAsJinja2Does) {
  compare_all(true);
}

class GoldenTemplate : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenTemplate, RendersAndEncodesEveryRecordedChatErrorsIncluded) {
  const std::string model = GetParam();
  const auto tokenizer = load_tokenizer(demo_folder(model));
  ASSERT_TRUE(tokenizer) << tokenizer.error().text;
  const auto parsed = chat_template::parse((*tokenizer)->chat_template());
  ASSERT_TRUE(parsed) << parsed.error().text;
  const auto document =
      json::parse(read_whole(source_folder + "/tests/golden/" + model + "/template_cases.json"));
  const auto& cases = document.at("templates").as_array();
  ASSERT_GE(cases.size(), 10u);
  for (const auto& entry : cases) {
    const json::object& c = entry.as_object();
    SCOPED_TRACE(json::serialize(c));
    const json::object variables = {{"messages", c.at("messages")},
                                    {"add_generation_prompt", c.at("add_generation_prompt")},
                                    {"bos_token", (*tokenizer)->bos_token()},
                                    {"eos_token", (*tokenizer)->eos_token()}};
    const auto text = parsed->render(variables);
    if (const auto* error = c.if_contains("error")) {
      ASSERT_FALSE(text);
      EXPECT_EQ(text.error().code, error_code::template_failed);
      EXPECT_EQ("TemplateError: " + text.error().text, error->as_string());
      continue;
    }
    ASSERT_TRUE(text) << text.error().text;
    EXPECT_EQ(*text, std::string(c.at("rendered").as_string()));
    EXPECT_EQ((*tokenizer)->encode(*text, false), json::value_to<std::vector<std::int32_t>>(c.at("ids")));
  }
}

INSTANTIATE_TEST_SUITE_P(Demo, GoldenTemplate, ::testing::Values("mixtral", "dbrx", "jamba"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace troupe::text
