// The three demo tokenizers against the recorded outputs of Hugging Face tokenizers.
#include <gtest/gtest.h>

#include "tests/actors/tokenizer/text_support.hpp"

namespace troupe::text {
namespace {
namespace json = boost::json;

std::string text_of(const json::value& v) {
  return std::string(v.as_string());
}

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

class GoldenTokenizer : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string model = GetParam();
    auto loaded = load_tokenizer(demo_folder(model));
    ASSERT_TRUE(loaded) << loaded.error().text;
    tokenizer_ = *loaded;
    cases_ = json::parse(
        read_whole(std::string(TROUPE_SOURCE_DIR) + "/tests/golden/" + model + "/tokenizer_cases.json"));
  }

  void check_decodings(const json::object& c, const std::vector<std::int32_t>& ids) const {
    EXPECT_EQ(tokenizer_->decode(ids, false), text_of(c.at("decoded")));
    EXPECT_EQ(tokenizer_->decode(ids, true), text_of(c.at("decoded_skip_special")));
    EXPECT_EQ(decode_by_steps(tokenizer_, ids, false), text_of(c.at("decoded")));
    EXPECT_EQ(decode_by_steps(tokenizer_, ids, true), text_of(c.at("decoded_skip_special")));
  }

  tokenizer_ptr tokenizer_;
  json::value cases_;
};

TEST_P(GoldenTokenizer, EncodesEveryRecordedString) {
  const auto& strings = cases_.at("strings").as_array();
  ASSERT_EQ(strings.size(), 300u);
  std::size_t from_bytes = 0;
  for (const auto& c : strings) {
    SCOPED_TRACE(json::serialize(c.at("text")));
    std::string text = text_of(c.at("text"));
    if (const auto* hex = c.as_object().if_contains("bytes_hex")) {
      text = from_hex(std::string_view(hex->as_string()));
      ++from_bytes;
    }
    EXPECT_EQ(tokenizer_->encode(text, false), ids_of(c.at("ids")));
    EXPECT_EQ(tokenizer_->encode(text, true), ids_of(c.at("ids_with_special")));
  }
  EXPECT_EQ(from_bytes, 20u);
}

TEST_P(GoldenTokenizer, DecodesWhatItEncodedAtOnceAndByStepsLikeTheReference) {
  for (const auto& c : cases_.at("strings").as_array()) {
    SCOPED_TRACE(json::serialize(c.at("text")));
    check_decodings(c.as_object(), ids_of(c.at("ids")));
  }
}

TEST_P(GoldenTokenizer, DecodesEveryRecordedSequenceAtOnceAndBySteps) {
  const auto& sequences = cases_.at("decode").as_array();
  ASSERT_EQ(sequences.size(), 100u);
  for (const auto& c : sequences) {
    SCOPED_TRACE(json::serialize(c.at("ids")));
    check_decodings(c.as_object(), ids_of(c.at("ids")));
  }
}

INSTANTIATE_TEST_SUITE_P(Demo, GoldenTokenizer, ::testing::Values("mixtral", "dbrx", "jamba"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace troupe::text
