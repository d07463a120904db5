// Promises of tokenizers that no recorded case covers: invariants, speed, and errors that name what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "actors/tokenizer/regex.hpp"
#include "actors/tokenizer/utf8.hpp"
#include "tests/actors/tokenizer/text_support.hpp"

namespace troupe::text {
namespace {
namespace json = boost::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

tokenizer_ptr demo(const std::string& model) {
  auto t = load_tokenizer(demo_folder(model));
  if (!t) throw std::runtime_error(t.error().text);
  return *t;
}

// ---- decoding

class EveryDemo : public ::testing::TestWithParam<const char*> {
 protected:
  tokenizer_ptr tokenizer_ = demo(GetParam());
};

TEST_P(EveryDemo, DecodesRandomIdsByStepsAsAtOnceAndNeverHalfACodePoint) {
  std::mt19937 random(11);
  const std::int32_t size = tokenizer_->vocabulary_size();
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::int32_t> ids(random() % 24);
    // Half of them from the first 260, where the bytes are.
    for (auto& id : ids) {
      const bool byte = random() % 2 == 0;
      id = static_cast<std::int32_t>(random() % (byte ? 260u : static_cast<unsigned>(size) + 9u)) - 2;
    }
    const bool skip = round % 2 == 0;
    incremental_decoder decoder(tokenizer_, skip);
    std::string text;
    for (const auto id : ids) {
      const std::string piece = decoder.push(id);
      ASSERT_TRUE(utf8::is_valid(piece));
      text += piece;
    }
    text += decoder.finish();
    ASSERT_EQ(text, tokenizer_->decode(ids, skip)) << json::serialize(json::value_from(ids));
  }
}

TEST_P(EveryDemo, GivesOutWholeWordsAtOnce) {
  const auto ids = tokenizer_->encode("The cat sat on the mat.", false);
  ASSERT_GT(ids.size(), 3u);
  incremental_decoder decoder(tokenizer_, false);
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::string piece = decoder.push(ids[i]);
    EXPECT_FALSE(piece.empty()) << "token " << i;
    text += piece;
  }
  EXPECT_EQ(text, "The cat sat on the mat.");
  EXPECT_EQ(decoder.finish(), "");
}

TEST_P(EveryDemo, TakesAnyTextThereAndBack) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (std::size_t i = 0, n = random() % 40; i < n; ++i) {
      static constexpr std::uint32_t tops[] = {0x80, 0x80, 0x250, 0x3000, 0x10FFFF};
      const std::uint32_t top = tops[random() % 5];
      const char32_t c = random() % top;
      // U+2581 is how two of these vocabularies write a space: it comes back as one.
      if ((c < 0xD800 || c > 0xDFFF) && c != 0x2581) utf8::append(text, c);
    }
    const auto ids = tokenizer_->encode(text, false);
    EXPECT_EQ(tokenizer_->decode(ids, false), text);
  }
}

TEST_P(EveryDemo, KnowsItsSpecialTokens) {
  const auto bos = tokenizer_->id_of(tokenizer_->bos_token());
  ASSERT_TRUE(bos);
  EXPECT_TRUE(tokenizer_->is_special(*bos));
  EXPECT_EQ(tokenizer_->token_bytes(*bos), tokenizer_->bos_token());
  EXPECT_EQ(tokenizer_->decode(std::vector{*bos}, true), "");
  EXPECT_FALSE(tokenizer_->is_special(300));
  EXPECT_FALSE(tokenizer_->is_special(-1));
  EXPECT_EQ(tokenizer_->token_bytes(tokenizer_->vocabulary_size()), "");
  EXPECT_FALSE(tokenizer_->id_of("no such token"));
  EXPECT_FALSE(tokenizer_->chat_template().empty());
}

TEST_P(EveryDemo, EncodesLongTextsInTimeThatGrowsWithTheirLength) {
  std::string words;
  for (int i = 0; words.size() < 200'000; ++i)
    words += "The lighthouse number " + std::to_string(i) + " is dark. ";
  const auto begin = std::chrono::steady_clock::now();
  for (const std::string& text :
       {words, std::string(200'000, 'a'), std::string(200'000, ' '), std::string(200'000, '7')}) {
    EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(text, false), false), text);
  }
  // Far above what it takes (milliseconds), far below what merging in quadratic time would.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

INSTANTIATE_TEST_SUITE_P(Demo, EveryDemo, ::testing::Values("mixtral", "dbrx", "jamba"),
                         [](const auto& test) { return std::string(test.param); });

TEST(TokenBytes, AreWhatATokenMeansInTheMiddleOfAText) {
  const auto mixtral = demo("mixtral");
  EXPECT_EQ(mixtral->token_bytes(mixtral->id_of("▁the").value()), " the");
  EXPECT_EQ(mixtral->token_bytes(mixtral->id_of("<0xF0>").value()), "\xF0");
  const auto dbrx = demo("dbrx");
  EXPECT_EQ(dbrx->token_bytes(dbrx->id_of("Ġthe").value()), " the");
  EXPECT_EQ(dbrx->token_bytes(dbrx->id_of("ð").value()), "\xF0");
}

TEST(IncrementalDecoder, HoldsARunOfBytesUntilItIsCertain) {
  const auto t = demo("mixtral");
  const auto byte = [&](const char* name) { return t->id_of(name).value(); };
  incremental_decoder good(t, false);
  EXPECT_EQ(good.push(byte("<0xC3>")), "");
  EXPECT_EQ(good.push(byte("<0xA9>")), "");  // still: a bad byte after it would spoil the whole run
  EXPECT_EQ(good.push(byte("▁the")), "é the");
  incremental_decoder bad(t, false);
  EXPECT_EQ(bad.push(byte("<0xC3>")), "");
  EXPECT_EQ(bad.push(byte("<0x41>")), "\uFFFD\uFFFD");
  EXPECT_EQ(bad.push(byte("<0x41>")), "\uFFFD");
  EXPECT_EQ(bad.finish(), "");
}

TEST(IncrementalDecoder, TurnsAnUnfinishedCodePointIntoAReplacementCharacter) {
  const auto t = demo("dbrx");
  incremental_decoder decoder(t, false);
  EXPECT_EQ(decoder.push(t->id_of("ð").value()), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
}

class half_tokenizer : public tokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view, bool) const override { return {}; }
  std::string decode(std::span<const std::int32_t> ids, bool) const override {
    return std::string(ids.size(), 'x');
  }
  std::string token_bytes(std::int32_t) const override { return {}; }
  std::optional<std::int32_t> id_of(std::string_view) const override { return {}; }
  bool is_special(std::int32_t) const override { return false; }
  std::int32_t vocabulary_size() const override { return 0; }
  const std::string& bos_token() const override { return empty_; }
  const std::string& eos_token() const override { return empty_; }
  const std::string& unk_token() const override { return empty_; }
  const std::string& pad_token() const override { return empty_; }
  const std::string& chat_template() const override { return empty_; }

 private:
  std::string empty_;
};

TEST(IncrementalDecoder, WorksAtTheEndForATokenizerThatOnlyDecodesAtOnce) {
  EXPECT_EQ(decode_by_steps(std::make_shared<half_tokenizer>(), {1, 2, 3}, false), "xxx");
}

// ---- bounds

TEST(LongestTokenBytes, BoundsHowFewTokensATextCanHave) {
  for (const char* model : {"mixtral", "dbrx", "jamba"}) {
    const auto t = demo(model);
    const std::size_t longest = t->longest_token_bytes();
    ASSERT_GT(longest, 0U) << model;
    std::string all;
    for (std::int32_t id = 0; id < t->vocabulary_size(); ++id) {
      const std::string text = t->token_bytes(id);
      all += text;
      EXPECT_LE(text.size(), longest) << model << " " << id;
    }
    for (const std::string& text :
         {all, std::string(5000, ' '), std::string(5000, 'a'), std::string(5000, '\n'),
          std::string(5000, '\xFF'), std::string(5000, '\0')})
      EXPECT_GE(t->encode(text, false).size() * longest, text.size()) << model << " " << text.substr(0, 3);
  }
}

TEST(LongestTokenBytes, AreUnknownWhereSomeStageMayDropText) {
  const json::value stripping_token =
      json::parse(R"([{"id": 1, "content": "<s>", "special": true, "rstrip": true}])");
  const boost::json::object changes[] = {
      {{"normalizer", {{"type", "Strip"}}}},
      {{"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", ""}}}},
      {{"normalizer", {{"type", "Replace"}, {"pattern", {{"Regex", "a+"}}}, {"content", "a"}}}},
      {{"pre_tokenizer", {{"type", "WhitespaceSplit"}}}},
      {{"pre_tokenizer", {{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "Removed"}}}},
      {{"added_tokens", stripping_token}},
      {{"model", {{"byte_fallback", false}}}},  // its unknown tokens are fused
  };
  for (const auto& change : changes) {
    const auto t = load_document(changed_tokenizer("mixtral", change));
    ASSERT_TRUE(t) << t.error().text;
    EXPECT_EQ((*t)->longest_token_bytes(), 0U) << json::serialize(change);
  }
}

TEST(LongestTokenBytes, GrowWithANormalizerThatShortens) {
  const auto plain = load_document(changed_tokenizer("mixtral", {{"normalizer", nullptr}}));
  const auto shortening = load_document(changed_tokenizer(
      "mixtral",
      {{"normalizer", {{"type", "Replace"}, {"pattern", {{"String", "aaaa"}}}, {"content", "b"}}}}));
  EXPECT_EQ((*shortening)->longest_token_bytes(), 4 * (*plain)->longest_token_bytes());
}

TEST(Encode, SaysThatAPatternGaveUpInsteadOfGivingWrongIds) {
  const auto t = load_document(changed_tokenizer(
      "dbrx", {{"pre_tokenizer",
                {{"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}}}}));
  ASSERT_TRUE(t) << t.error().text;
  EXPECT_NO_THROW((*t)->encode("aaaa", false));
  try {
    (*t)->encode("xy" + std::string(60, 'a') + "b", false);
    FAIL() << "ids of text that could not be cut";
  } catch (const cannot_tokenize& e) {
    EXPECT_THAT(e.what(), HasSubstr("match limit exceeded"));
  }
}

TEST(Encode, GoesOnWithoutMachineCodeWhereItsStackIsTooSmall) {
  const auto t = load_document(changed_tokenizer(
      "dbrx", {{"pre_tokenizer",
                {{"type", "Split"}, {"pattern", {{"Regex", "(a|b)*c"}}}, {"behavior", "Isolated"}}}}));
  ASSERT_TRUE(t) << t.error().text;
  const std::string text = std::string(100'000, 'a') + "c";
  EXPECT_EQ((*t)->decode((*t)->encode(text, false), false), text);
}

// ---- files

TEST(LoadTokenizer, ReadsMergesWrittenAsStringsOrAsPairs) {
  json::value document = changed_tokenizer("dbrx", {});
  json::array pairs;
  for (const auto& m : document.at("model").at("merges").as_array()) {
    const std::string text(m.as_string());
    const auto space = text.find(' ');
    pairs.push_back(json::array{text.substr(0, space), text.substr(space + 1)});
  }
  document.at("model").as_object()["merges"] = pairs;
  const auto t = load_document(document);
  ASSERT_TRUE(t) << t.error().text;
  const std::string text = "Both spellings of the merges give the same tokens.";
  EXPECT_EQ((*t)->encode(text, false), demo("dbrx")->encode(text, false));
}

TEST(LoadTokenizer, TakesNamesAndTemplateFromWhereverTheyStand) {
  const temporary_folder folder;
  std::filesystem::copy(demo_folder("mixtral") / "tokenizer.json", folder.path());
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": null,
      "chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}],
      "added_tokens_decoder": {"4096": {"content": "<extra>", "special": true}}})");
  folder.write("special_tokens_map.json",
               R"({"bos_token": "ignored", "eos_token": "</s>", "pad_token": {"content": "<p>"},
      "mask_token": "<m>", "additional_special_tokens": ["<a>", {"content": "<b>"}]})");
  auto t = load_tokenizer(folder.path());
  ASSERT_TRUE(t) << t.error().text;
  EXPECT_EQ((*t)->bos_token(), "<s>");
  EXPECT_EQ((*t)->eos_token(), "</s>");
  EXPECT_EQ((*t)->pad_token(), "<p>");
  EXPECT_EQ((*t)->special_tokens(), (json::object{{"bos_token", "<s>"},
                                                  {"eos_token", "</s>"},
                                                  {"pad_token", "<p>"},
                                                  {"mask_token", "<m>"},
                                                  {"additional_special_tokens", {"<a>", "<b>"}}}));
  EXPECT_EQ((*t)->unk_token(), "");
  EXPECT_EQ((*t)->chat_template(), "D");
  EXPECT_EQ((*t)->encode("<extra>", false), std::vector<std::int32_t>{4096});
  EXPECT_TRUE((*t)->is_special(4096));
  EXPECT_EQ((*t)->vocabulary_size(), 4097);
  folder.write("chat_template.jinja", "J");
  t = load_tokenizer(folder.path());
  ASSERT_TRUE(t) << t.error().text;
  EXPECT_EQ((*t)->chat_template(), "J");
}

TEST(LoadTokenizer, AnswersNotFoundForAMissingFile) {
  const auto t = load_tokenizer("/nowhere");
  ASSERT_FALSE(t);
  EXPECT_EQ(t.error().code, error_code::not_found);
  EXPECT_THAT(t.error().text, HasSubstr("/nowhere/tokenizer.json"));
}

TEST(LoadTokenizer, SaysWhatToDoWithASentencePieceModelAlone) {
  const temporary_folder folder;
  folder.write("tokenizer.model", "");
  const auto t = load_tokenizer(folder.path());
  ASSERT_FALSE(t);
  EXPECT_EQ(t.error().code, error_code::not_found);
  EXPECT_THAT(t.error().text, HasSubstr("AutoTokenizer"));
}

TEST(LoadTokenizer, SurvivesDamagedFiles) {
  std::mt19937 random(17);
  const std::string good =
      json::serialize(changed_tokenizer("mixtral", {{"model", {{"merges", json::array{"t h"}}}}}));
  const temporary_folder folder;
  int refused = 0;
  for (int round = 0; round < 60; ++round) {
    std::string bad = good;
    // Damage what stands around the vocabulary, and cut some short.
    for (int i = 0; i < 3; ++i) bad[random() % 1200] = "{}[]\",:0ax\\"[random() % 11];
    if (round % 3 == 0) bad.resize(random() % bad.size());
    folder.write("tokenizer.json", bad);
    const auto t = load_tokenizer(folder.path());
    if (t) continue;
    ++refused;
    EXPECT_EQ(t.error().code, error_code::bad_checkpoint);
    EXPECT_THAT(t.error().text, HasSubstr("tokenizer.json"));
  }
  EXPECT_GT(refused, 20);
}

TEST(LoadTokenizer, SaysWhereJsonIsBroken) {
  const temporary_folder folder;
  folder.write("tokenizer.json", "{\n  \"model\": {,}\n}");
  const auto t = load_tokenizer(folder.path());
  ASSERT_FALSE(t);
  EXPECT_EQ(t.error().code, error_code::bad_checkpoint);
  EXPECT_THAT(t.error().text, AllOf(HasSubstr("tokenizer.json"), HasSubstr("line 2")));
}

struct bad_setting {
  const char* change;              // what differs from the demo's tokenizer.json
  std::vector<std::string> names;  // what the complaint must name
};

class BadSetting : public ::testing::TestWithParam<bad_setting> {};

TEST_P(BadSetting, IsRefusedWithFileKeyAndWhatIsSupported) {
  const auto t = load_document(changed_tokenizer("mixtral", json::parse(GetParam().change).as_object()));
  ASSERT_FALSE(t);
  EXPECT_EQ(t.error().code, error_code::bad_checkpoint);
  EXPECT_THAT(t.error().text, HasSubstr("tokenizer.json"));
  for (const auto& name : GetParam().names) EXPECT_THAT(t.error().text, HasSubstr(name));
}

const bad_setting bad_settings[] = {
    {R"({"normalizer": {"type": "Precompiled"}})", {"normalizer.type", "'Precompiled'", "NFKC"}},
    {R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Odd"}]}})",
     {"normalizer.normalizers[1].type", "'Odd'"}},
    {R"({"normalizer": {"type": "Prepend"}})", {"normalizer: key 'prepend' is missing"}},
    {R"({"normalizer": 5})", {"normalizer: expected an object, found a number"}},
    {R"({"normalizer": {"type": "Replace", "pattern": {"Regex": "(a"}, "content": ""}})",
     {"normalizer.pattern", "(a"}},
    {R"({"pre_tokenizer": {"type": "UnicodeScripts"}})", {"pre_tokenizer.type", "Metaspace"}},
    {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[a&&b]"}, "behavior": "Isolated"}})",
     {"pre_tokenizer.pattern", "character classes"}},
    {R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Torn"}})",
     {"pre_tokenizer.behavior", "'Torn'", "MergedWithNext"}},
    {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "ab"}})",
     {"pre_tokenizer.replacement", "'ab'"}},
    {R"({"post_processor": {"type": "TemplateProcessing", "single": [], "special_tokens": {}}})",
     {"post_processor.single"}},
    {R"({"decoder": {"type": "WordPiece"}})", {"decoder.type", "ByteFallback"}},
    {R"({"decoder": {"type": "Strip", "content": " ", "start": -1, "stop": 0}})", {"decoder.start"}},
    {R"({"model": {"type": "Unigram"}})", {"model.type", "'Unigram'", "BPE"}},
    {R"({"model": {"merges": ["a b c"]}})", {"model.merges[0]", "'a b c'"}},
    {R"({"model": {"merges": ["t h", "nosuchtoken x"]}})",
     {"model.merges[1]", "'nosuchtoken'", "vocabulary"}},
    {R"({"model": {"merges": [["a"]]}})", {"model.merges[0]"}},
    {R"({"model": {"unk_token": "<nope>"}})", {"model.unk_token", "<nope>"}},
    {R"({"model": {"dropout": 0.5}})", {"model.dropout"}},
    {R"({"model": {"vocab": {"a": -1}}})", {"model.vocab['a']"}},
    {R"({"model": {"vocab": {"a": "1"}}})", {"model.vocab['a']"}},
    {R"({"model": {"vocab": {"a": 2000000000}, "merges": [], "unk_token": null}})", {"2000000000"}},
    {R"({"added_tokens": [{"id": 5}]})", {"added_tokens[0]", "'content'"}}};

INSTANTIATE_TEST_SUITE_P(Settings, BadSetting, ::testing::ValuesIn(bad_settings));

// ---- small parts

TEST(Utf8, ReplacesEachBadSequenceOnceAsPythonDoes) {
  EXPECT_EQ(utf8::sanitize("a\xC3"), "a\uFFFD");
  EXPECT_EQ(utf8::sanitize("\xE2\x82"
                           "b"),
            "\uFFFDb");
  EXPECT_EQ(utf8::sanitize("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(utf8::sanitize("\xF0\x9F\x98\xFF\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(utf8::sanitize("\xC0\xAF"), "\uFFFD\uFFFD");
  EXPECT_EQ(utf8::sanitize("good é"), "good é");
}

TEST(Regex, ReadsOnigurumasClasses) {
  EXPECT_EQ(to_pcre(R"([\s\h]\w)").value(), R"([\p{White_Space}0-9a-fA-F][\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])");
  EXPECT_EQ(to_pcre(R"([]a[:alpha:]\]]\.)").value(), R"([]a[:alpha:]\]]\.)");
  EXPECT_FALSE(to_pcre("[a[b]]"));
}

TEST(Regex, GivesUpLoudlyOnAPatternThatBacktracksWithoutEnd) {
  const auto r = regex::compile("(a+)+$");
  ASSERT_TRUE(r) << r.error().text;
  const std::string text = std::string(5000, 'a') + "b";
  EXPECT_THROW(r->find_all(text), cannot_tokenize);
}

TEST(StopMatcher, FindsAStopStringAcrossPieces) {
  stop_matcher m({"</end>"}, false);
  EXPECT_EQ(m.push("text</").text, "text");
  EXPECT_EQ(m.push("en").text, "");
  const auto out = m.push("d> more");
  EXPECT_EQ(out.text, "");
  EXPECT_EQ(out.hit, "</end>");
}

TEST(StopMatcher, GivesBackWhatOnlyLookedLikeAStop) {
  stop_matcher m({"</end>"}, false);
  EXPECT_EQ(m.push("a</e").text, "a");
  EXPECT_EQ(m.push("x</").text, "</ex");
  EXPECT_EQ(m.finish(), "</");
  EXPECT_EQ(m.finish(), "");
}

TEST(StopMatcher, IncludesTheStopStringIfAsked) {
  stop_matcher m({"\n\n"}, true);
  EXPECT_EQ(m.push("one\n").text, "one");
  const auto out = m.push("\ntwo");
  EXPECT_EQ(out.text, "\n\n");
  EXPECT_EQ(out.hit, "\n\n");
}

TEST(StopMatcher, NeverEndsWithoutStops) {
  stop_matcher m({""}, false);
  const auto out = m.push("anything");
  EXPECT_EQ(out.text, "anything");
  EXPECT_FALSE(out.hit);
}

TEST(StopMatcher, DoesNotDependOnHowTheTextIsCut) {
  const std::vector<std::string> stops = {"abab", "bb", "abc", "é!", "cab"};
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += std::vector<std::string>{"a", "b", "c", "é", "!"}[random() % 5];
    stop_matcher whole(stops, false);
    const auto expected = whole.push(text);
    const std::string expected_text = expected.hit ? expected.text : expected.text + whole.finish();
    stop_matcher pieces(stops, false);
    std::string got;
    std::optional<std::string> hit;
    for (std::size_t at = 0; at < text.size() && !hit;) {
      std::size_t n = 1 + random() % 3;
      while (at + n < text.size() && (static_cast<unsigned char>(text[at + n]) & 0xC0u) == 0x80u) ++n;
      const auto out = pieces.push(std::string_view(text).substr(at, n));
      EXPECT_TRUE(utf8::is_valid(out.text));
      got += out.text;
      hit = out.hit;
      at += n;
    }
    if (!hit) got += pieces.finish();
    ASSERT_EQ(got, expected_text) << text;
    ASSERT_EQ(hit, expected.hit) << text;
  }
}

}  // namespace
}  // namespace troupe::text
