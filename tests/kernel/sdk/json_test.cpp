#include <gmock/gmock.h>

#include <troupe/sdk/json.hpp>

namespace troupe::sdk {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const config_error& e) {
    EXPECT_EQ(e.status(), TROUPE_BAD_CONFIG);
    return e.what();
  }
  return "no error";
}
std::string parse_error(std::string_view text) {
  return error_of([&] { json::parse(text); });
}

TEST(Json, ReadsEveryKindOfValue) {
  const auto root = json::parse(
      R"( {"b": true, "f": false, "i": -12, "d": 1.5e3, "s": "x\n\u00e9\ud83d\ude00/\/", "n": null,
                                     "l": [1, 2, 3], "o": {"k": "v"}, "e": [], "eo": {}} )");
  EXPECT_TRUE(root.get<bool>("b"));
  EXPECT_FALSE(root.get<bool>("f"));
  EXPECT_EQ(root.get<int>("i"), -12);
  EXPECT_EQ(root.get<double>("d"), 1500.0);
  EXPECT_EQ(root.get<float>("i"), -12.0f);
  EXPECT_EQ(root.get<std::string>("s"), "x\n\xc3\xa9\xf0\x9f\x98\x80//");
  EXPECT_THAT(root.get<std::vector<int>>("l"), ElementsAre(1, 2, 3));
  EXPECT_TRUE(root.get<std::vector<int>>("e").empty());
  EXPECT_EQ(root.find("o")->get<std::string>("k"), "v");
  EXPECT_EQ(root.find("n"), nullptr) << "null is as good as absent";
  EXPECT_EQ(root.members().size(), 10u);
}

TEST(Json, TellsNullFromAbsent) {
  const auto root = json::parse(R"({"a": null, "b": 3, "o": {}})");
  EXPECT_TRUE(root.is_null("a"));
  EXPECT_FALSE(root.is_null("b"));
  EXPECT_FALSE(root.is_null("c"));
  EXPECT_EQ(root.path_of("c"), "c");
  EXPECT_EQ(root.find("o")->path_of("c"), "o.c");
}

TEST(Json, GivesTheFallbackForWhatIsAbsentOrNull) {
  const auto root = json::parse(R"({"a": null, "b": 3})");
  EXPECT_EQ(root.get_or<int>("a", 7), 7);
  EXPECT_EQ(root.get_or<int>("b", 7), 3);
  EXPECT_EQ(root.get_or<std::string>("c", "x"), "x");
}

TEST(Json, NamesTheKeyByItsPath) {
  const auto root =
      json::parse(R"({"rope": {"theta": "big", "list": [1, "two"]}, "n": 1.5, "neg": -1, "big": 4294967296,
                                    "huge": 99999999999999999999, "null": null})");
  const auto error = [&](const auto& call) { return error_of(call); };
  EXPECT_EQ(error([&] { root.get<int>("hidden_size"); }), "hidden_size: the key is missing");
  EXPECT_EQ(error([&] { root.get<int>("null"); }), "null: the key is missing");
  EXPECT_EQ(error([&] { root.find("rope")->get<double>("theta"); }),
            "rope.theta: expected a number, found \"big\"");
  EXPECT_EQ(error([&] { root.find("rope")->get<double>("beta"); }), "rope.beta: the key is missing");
  EXPECT_EQ(error([&] { root.find("rope")->get<std::vector<int>>("list"); }),
            "rope.list[1]: expected an integer from -2147483648 to 2147483647, found \"two\"");
  EXPECT_EQ(error([&] { root.get<std::uint32_t>("n"); }),
            "n: expected an integer from 0 to 4294967295, found 1.5");
  EXPECT_EQ(error([&] { root.get<std::uint32_t>("neg"); }),
            "neg: expected an integer from 0 to 4294967295, found -1");
  EXPECT_EQ(error([&] { root.get<std::uint32_t>("big"); }),
            "big: expected an integer from 0 to 4294967295, found 4294967296");
  EXPECT_THAT(error([&] { root.get<std::int64_t>("huge"); }), HasSubstr("found 99999999999999999999"));
  EXPECT_EQ(error([&] { root.get<bool>("neg"); }), "neg: expected true or false, found -1");
  EXPECT_EQ(error([&] { root.get<std::string>("rope"); }), "rope: expected a string, found an object");
  EXPECT_EQ(error([&] { root.get<std::vector<int>>("neg"); }), "neg: expected a list, found -1");
  EXPECT_EQ(error([&] { root.as<std::string>(); }), "expected a string, found an object");
}

struct broken_case {
  const char* text;
  const char* why;
};

TEST(Json, RefusesWhatIsNotJsonAndNamesTheLine) {
  const broken_case cases[] = {
      {"", "expected a value"},
      {"{", "expected a key"},
      {"{\"a\" 1}", "expected :"},
      {"{\"a\": 1,}", "expected a key"},
      {"{\"a\": 1 \"b\": 2}", "expected }"},
      {"{a: 1}", "expected a key"},
      {"{\"a\": 1} x", "text behind its end"},
      {"[1, 2", "expected ]"},
      {"[1,]", "expected a value"},
      {"{\"a\": 1, \"a\": 2}", "the key a comes twice"},
      {"{\"o\": {\"a\": 1, \"a\": 2}}", "the key o.a comes twice"},
      {"tru", "an unknown word"},
      {"NaN", "expected a value"},
      {"Infinity", "expected a value"},
      {"01", "a number with a leading zero"},
      {"1.", "ends in its point"},
      {"1e", "without its exponent"},
      {"1e999", "out of range"},
      {"-", "expected a value"},
      {"+1", "expected a value"},
      {"\"abc", "a string without its end"},
      {"\"a\nb\"", "a control character"},
      {"\"\\x\"", "an unknown escape"},
      {"\"\\u12\"", "an unknown escape"},
      {"\"\\u12g4\"", "an unknown escape"},
      {"\"\\ud800\"", "half of a surrogate pair"},
      {"\"\\ud800\\u0041\"", "half of a surrogate pair"},
      {"\"\\udc00\"", "half of a surrogate pair"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(parse_error(c.text), HasSubstr(c.why)) << c.text;
    EXPECT_THAT(parse_error(c.text), testing::StartsWith("line 1: not valid JSON: ")) << c.text;
  }
  EXPECT_THAT(parse_error("{\n\"a\": 1,\n\"b\" 2}"), HasSubstr("line 3"));
  EXPECT_THAT(parse_error(std::string(100000, '[')), HasSubstr("nested too deeply"));
}

TEST(Json, NeverReadsBeyondATextThatIsCutAnywhere) {
  const std::string whole = R"({"a": [1, -2.5e-3, "x\u00e9\ud83d\ude00"], "b": {"c": true, "d": null}})";
  EXPECT_EQ(parse_error(whole), "no error");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<char> exact(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_NE(parse_error(std::string_view(exact.data(), exact.size())), "no error") << size;
  }
}

}  // namespace
}  // namespace troupe::sdk
