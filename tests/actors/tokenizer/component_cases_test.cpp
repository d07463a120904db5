// Single components, and demo tokenizers with other components, against recorded outputs of Hugging Face tokenizers
// (make_component_cases.py).
#include <gtest/gtest.h>

#include "actors/tokenizer/normalizers.hpp"
#include "actors/tokenizer/pre_tokenizers.hpp"
#include "tests/actors/tokenizer/text_support.hpp"

namespace troupe::text {
namespace {
namespace json = boost::json;

const json::value& cases() {
  static const json::value all = json::parse(
      read_whole(std::string(TROUPE_SOURCE_DIR) + "/tests/actors/tokenizer/component_cases.json"));
  return all;
}

const json::array& texts() {
  return cases().at("texts").as_array();
}

std::string quoted(const json::value& v) {
  return json::serialize(v);
}

TEST(Normalizers, GiveWhatTheReferenceGives) {
  ASSERT_GE(cases().at("normalizer").as_array().size(), 15u);
  for (const auto& c : cases().at("normalizer").as_array()) {
    const normalizer apply = make_normalizer(setting(c.at("config"), "normalizer"));
    for (std::size_t i = 0; i < texts().size(); ++i) {
      const std::string text(texts()[i].as_string());
      EXPECT_EQ(apply(text), std::string(c.at("out").at(i).as_string()))
          << quoted(c.at("config")) << " on " << quoted(texts()[i]);
    }
  }
}

TEST(PreTokenizers, CutWhereTheReferenceCuts) {
  ASSERT_GE(cases().at("pre_tokenizer").as_array().size(), 40u);
  for (const auto& c : cases().at("pre_tokenizer").as_array()) {
    const pre_tokenizer apply = make_pre_tokenizer(setting(c.at("config"), "pre_tokenizer"));
    for (std::size_t i = 0; i < texts().size(); ++i) {
      json::array pieces;
      for (const auto& piece : apply({{std::string(texts()[i].as_string()), true}})) {
        if (!piece.text.empty()) pieces.emplace_back(piece.text);
      }
      EXPECT_EQ(quoted(pieces), quoted(c.at("out").at(i)))
          << quoted(c.at("config")) << " on " << quoted(texts()[i]);
    }
  }
}

TEST(ChangedTokenizers, EncodeAndDecodeLikeTheReference) {
  ASSERT_GE(cases().at("changed").as_array().size(), 18u);
  for (const auto& c : cases().at("changed").as_array()) {
    const std::string name(c.at("name").as_string());
    const auto t =
        load_document(changed_tokenizer(std::string(c.at("base").as_string()), c.at("change").as_object()));
    ASSERT_TRUE(t) << name << ": " << t.error().text;
    for (const auto& x : c.at("texts").as_array()) {
      const std::string text(x.at("text").as_string());
      EXPECT_EQ((*t)->encode(text, false), ids_of(x.at("ids"))) << name << ": " << quoted(x.at("text"));
      EXPECT_EQ((*t)->encode(text, true), ids_of(x.at("ids_with_special")))
          << name << ": " << quoted(x.at("text"));
    }
    for (const auto& x : c.at("decode").as_array()) {
      const auto ids = ids_of(x.at("ids"));
      const std::string all(x.at("decoded").as_string());
      const std::string without(x.at("decoded_skip_special").as_string());
      EXPECT_EQ((*t)->decode(ids, false), all) << name << ": " << quoted(x.at("ids"));
      EXPECT_EQ((*t)->decode(ids, true), without) << name << ": " << quoted(x.at("ids"));
      EXPECT_EQ(decode_by_steps(*t, ids, false), all) << name << ": " << quoted(x.at("ids"));
      EXPECT_EQ(decode_by_steps(*t, ids, true), without) << name << ": " << quoted(x.at("ids"));
    }
  }
}

}  // namespace
}  // namespace troupe::text
