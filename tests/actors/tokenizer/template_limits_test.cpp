// What keeps a template from harming the server: limits, the sandbox, and errors that name the line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "actors/tokenizer/chat_template.hpp"
#include "tests/actors/tokenizer/text_support.hpp"

namespace troupe::text {
namespace {
namespace json = boost::json;
using ::testing::HasSubstr;

result<std::string> render(std::string_view source, const json::object& variables = {},
                           const template_limits& limits = {}) {
  const auto parsed = chat_template::parse(source);
  if (!parsed) return fail(parsed.error());
  return parsed->render(variables, limits);
}

void expect_failure(const result<std::string>& r, error_code code, const std::string& text) {
  ASSERT_FALSE(r) << r->substr(0, 200);
  EXPECT_EQ(r.error().code, code) << r.error().text;
  EXPECT_THAT(r.error().text, HasSubstr(text));
}

TEST(TemplateLimits, EndLoopsThatWouldNotEnd) {
  const std::string loops =
      "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{{ c }}{% endfor "
      "%}{% endfor "
      "%}{% endfor %}";
  const auto begin = std::chrono::steady_clock::now();
  expect_failure(render(loops), error_code::template_failed, "steps");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
}

TEST(TemplateLimits, EndOutputThatGrowsTooLong) {
  template_limits limits;
  limits.output_bytes = 1000;
  EXPECT_TRUE(render("{% for i in range(900) %}x{% endfor %}", {}, limits));
  expect_failure(render("{% for i in range(1001) %}x{% endfor %}", {}, limits), error_code::template_failed,
                 "1000 bytes");
}

TEST(TemplateLimits, EndTextThatDoublesItself) {
  expect_failure(render("{% set n = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s "
                        "%}{% endfor %}"),
                 error_code::template_failed, "bytes");
  expect_failure(render("{{ 'x' * 1000000000 }}"), error_code::template_failed, "bytes");
  expect_failure(render("{{ 'x' * 10 ** 30 }}"), error_code::template_failed, "too long");
  expect_failure(render("{{ 'aaaa'.replace('', 'x' * 10000000) }}"), error_code::template_failed, "bytes");
  expect_failure(render("{{ (['x' * 1000000] * 100) | join }}"), error_code::template_failed, "bytes");
  expect_failure(render("{{ [0] * 100000000 }}"), error_code::template_failed, "steps");
  expect_failure(render("{{ range(100001) }}"), error_code::template_failed, "Range too big");
}

TEST(TemplateLimits, EndArithmeticThatGrowsTooLarge) {
  expect_failure(render("{{ 10 ** 10 ** 10 }}"), error_code::template_failed, "too large");
  expect_failure(render("{{ 99999999999999999999999999999999999999999 }}"), error_code::bad_checkpoint,
                 "too large");
}

TEST(TemplateLimits, EndRecursionOfMacros) {
  expect_failure(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), error_code::template_failed,
                 "levels deep");
}

TEST(TemplateLimits, EndListsThatNestThemselves) {
  expect_failure(
      render("{% set n = namespace(l=[]) %}{% for i in range(100000) %}{% set n.l = [n.l] %}{% endfor %}"),
      error_code::template_failed, "nested");
}

TEST(TemplateLimits, CopeWithANamespaceThatHoldsItself) {
  const auto r = render(
      "{% set n = namespace() %}{% set n.me = n %}{% set n.list = [n] %}{{ n.list }}{{ n.me.me.list | length "
      "}}");
  ASSERT_TRUE(r) << r.error().text;
  EXPECT_THAT(*r, HasSubstr("1"));
}

TEST(TemplateLimits, EndNestingAlreadyInTheSource) {
  const auto nested = [](const std::string& open, const std::string& close, int n) {
    std::string s;
    for (int i = 0; i < n; ++i) s += open;
    s += "1";
    for (int i = 0; i < n; ++i) s += close;
    return s;
  };
  for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{
           {"(", ")"}, {"[", "]"}, {"-", ""}, {"not ", ""}, {"{1:", "}"}, {"x[", "]"}, {"f(", ")"}}) {
    expect_failure(render("{{ " + nested(open, close, 100'000) + " }}"), error_code::bad_checkpoint,
                   "levels deep");
  }
  expect_failure(render(nested("{% if 1 %}", "{% endif %}", 50'000)), error_code::bad_checkpoint,
                 "levels deep");
  expect_failure(render("{{ x" + nested(".a", "", 100'000) + " }}"), error_code::bad_checkpoint,
                 "in one tag");
  expect_failure(render("{{ x" + nested("|abs", "", 100'000) + " }}"), error_code::bad_checkpoint, "");
}

TEST(TemplateLimits, LetLongFlatExpressionsPass) {
  std::string sum = "{{ 'a'";
  for (int i = 0; i < 2000; ++i) sum += " + 'a'";
  const auto r = render(sum + " }}");
  ASSERT_TRUE(r) << r.error().text;
  EXPECT_EQ(r->size(), 2001u);
}

TEST(TemplateLimits, EndDeepDataFromARequest) {
  json::value deep = 1;
  for (int i = 0; i < 1000; ++i) deep = json::array{std::move(deep)};
  expect_failure(render("{{ x }}", {{"x", deep}}), error_code::template_failed, "levels deep");
}

TEST(TemplateSandbox, HasNoOtherTemplates) {
  for (const char* tag : {"include 'x'", "import 'x' as y", "from 'x' import y", "extends 'x'", "block x"}) {
    expect_failure(render("a\n{% " + std::string(tag) + " %}"), error_code::bad_checkpoint, "line 2");
    expect_failure(render("{% " + std::string(tag) + " %}"), error_code::bad_checkpoint, "stands alone");
  }
}

TEST(TemplateSandbox, ReachesNothingBehindTheData) {
  for (const char* source : {"{{ ''.__class__.__mro__ }}", "{{ [].__init__() }}", "{{ m.__globals__['os'] }}",
                             "{{ [1].append(2) }}"}) {
    expect_failure(render(source), error_code::template_failed, "line 1");
  }
}

TEST(TemplateErrors, NameTheLine) {
  expect_failure(render("a\nb\n{{ missing.attribute }}"), error_code::template_failed,
                 "line 3: 'missing' is undefined");
  expect_failure(render("a\n{% if %}"), error_code::bad_checkpoint, "line 2: expected an expression");
  expect_failure(render("a\n\n{{ 'x' | shout }}"), error_code::bad_checkpoint,
                 "line 3: no filter named 'shout'; known are abs");
  expect_failure(render("{% if x %}\ntext"), error_code::bad_checkpoint,
                 "{% if %} of line 1 is not closed with {% endif %}");
  expect_failure(render("{% macro m(x) %}\n{{ x.y.z }}{% endmacro %}\n{{ m(1) }}"),
                 error_code::template_failed, "line 2");
  expect_failure(render("{% macro m(x) %}\n\n{% endmacro %}\n{{ m(1) + 1 }}"), error_code::template_failed,
                 "line 4");
  expect_failure(render("{% recur %}"), error_code::bad_checkpoint, "unexpected tag 'recur'");
  expect_failure(render("\xff"), error_code::bad_checkpoint, "UTF-8");
}

TEST(TemplateErrors, PassOnExactlyWhatTheTemplateRaises) {
  const auto r = render("\n{{ raise_exception('Only users may speak!') }}");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, error_code::template_failed);
  EXPECT_EQ(r.error().text, "Only users may speak!");
}

TEST(TemplateData, ReplacesBytesThatAreNoText) {
  const auto r = render("{{ x }}{{ x | length }}", {{"x", "a\xE2\x82"}});
  ASSERT_TRUE(r) << r.error().text;
  EXPECT_EQ(*r, "a\uFFFD2");
}

// Real templates with random damage, and random sequences of their parts.
TEST(TemplateLimits, HoldForDamagedTemplates) {
  const std::filesystem::path folder =
      std::filesystem::path(TROUPE_SOURCE_DIR) / "tests/actors/tokenizer/templates";
  const json::object variables = json::parse(read_whole(folder / "variables.json")).at("tools").as_object();
  std::vector<std::string> parts = {"{{",
                                    "}}",
                                    "{%",
                                    "%}",
                                    "{#",
                                    "#}",
                                    "-",
                                    "|",
                                    "(",
                                    ")",
                                    "[",
                                    "]",
                                    ".",
                                    "'",
                                    "1e9",
                                    "~",
                                    " is ",
                                    " if ",
                                    " else ",
                                    " for ",
                                    " in ",
                                    "\n",
                                    "\\",
                                    "é",
                                    "{% endif %}",
                                    "{% endfor %}",
                                    "messages",
                                    "loop",
                                    "namespace(",
                                    "| map(",
                                    "| sort ",
                                    "| join ",
                                    "**",
                                    "not ",
                                    "*"};
  for (std::string line; const auto& file : {"../snippets.txt"}) {
    std::stringstream snippets(read_whole(folder / file));
    while (std::getline(snippets, line)) parts.push_back(line);
  }
  std::vector<std::string> sources;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".jinja") sources.push_back(read_whole(entry.path()));
  }
  template_limits limits;
  limits.steps = 20'000;
  limits.output_bytes = 100'000;
  std::mt19937 random(23);
  std::size_t rendered = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string source = round % 3 == 0 ? std::string() : sources[random() % sources.size()];
    for (std::size_t i = 0, n = 1 + random() % 5; i < n; ++i) {
      const std::size_t at = source.empty() ? 0 : random() % source.size();
      if (random() % 2 == 0) source.erase(at, random() % 12);
      source.insert(std::min(at, source.size()), parts[random() % parts.size()]);
    }
    rendered += render(source, variables, limits).has_value();  // or an error, but nothing worse
  }
  EXPECT_GT(rendered, 100u);
}

TEST(TemplateThreads, ShareOneParsedTemplate) {
  const auto parsed = chat_template::parse(
      "{% macro m(x) %}<{{ x }}>{% endmacro %}{% for i in range(50) %}{{ m(i ~ 'x') }}{% endfor %}");
  ASSERT_TRUE(parsed) << parsed.error().text;
  const std::string expected = parsed->render({}).value();
  std::vector<std::thread> threads;
  std::atomic<int> equal = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) equal += parsed->render({}).value() == expected ? 1 : 0;
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(equal, 200);
}

}  // namespace
}  // namespace troupe::text
