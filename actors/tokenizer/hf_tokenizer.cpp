#include "actors/tokenizer/hf_tokenizer.hpp"

#include <algorithm>

#include "actors/tokenizer/utf8.hpp"

namespace troupe::text {
namespace {

constexpr std::int32_t highest_id =
    (1 << 26) - 1;  // a table of this size is still affordable; vocabularies are far below

// An absent key and null mean the same in tokenizer.json.
setting part(const boost::json::value& document, std::string_view key) {
  static const boost::json::value nothing;
  const setting root(document, "");
  return root.has(key) ? root.at(key) : setting(nothing, std::string(key));
}

added_token read_added(const setting& s) {
  added_token t;
  t.id = s.at("id").token_id();
  t.content = s.at("content").string();
  t.special = s.boolean_or("special", false);
  t.single_word = s.boolean_or("single_word", false);
  t.lstrip = s.boolean_or("lstrip", false);
  t.rstrip = s.boolean_or("rstrip", false);
  t.normalized = s.boolean_or("normalized", !t.special);
  return t;
}

}  // namespace

class hf_tokenizer::stream : public decoding {
 public:
  stream(const hf_tokenizer& t, bool skip) : tokenizer_(t), running_(t.decoder_.start()), skip_(skip) {}
  std::string push(std::int32_t id) override {
    const entry* e = tokenizer_.find(id);
    return e == nullptr || (skip_ && e->special) ? std::string() : running_.push(e->token);
  }
  std::string finish() override { return running_.finish(); }

 private:
  const hf_tokenizer& tokenizer_;
  decoder_stream running_;
  bool skip_;
};

hf_tokenizer::hf_tokenizer(const boost::json::value& document, tokenizer_names names)
    : names_(std::move(names)),
      normalizer_(make_normalizer(part(document, "normalizer"))),
      pre_tokenizer_(make_pre_tokenizer(part(document, "pre_tokenizer"))),
      model_(setting(document, "").at("model")),
      post_processor_(make_post_processor(part(document, "post_processor"))),
      decoder_(part(document, "decoder")) {
  const setting added = part(document, "added_tokens");
  if (!added.is_null()) {
    for (const auto& item : added.items()) add(read_added(item));
  }
  for (auto& token : names_.added) add(std::move(token));
  for (const auto& token : added_) {
    if (!token.normalized) raw_tokens_.add(token, token.content);
    if (token.normalized) {
      normalized_tokens_.add(token, normalizer_ ? normalizer_(token.content) : token.content);
    }
  }
  index_tokens("model.vocab");
  longest_token_bytes_ = measure_tokens(document);
}

// Each token takes up what it is spelled with, or one code point if it stands for unknown ones, provided that no stage
// drops text. Where the normalizer makes text shorter by a known factor, a token takes up more by the same factor.
std::size_t hf_tokenizer::measure_tokens(const boost::json::value& document) const {
  const std::size_t factor = most_shrinking(part(document, "normalizer"));
  const setting splitter = part(document, "pre_tokenizer");
  const bool strips = std::ranges::any_of(added_, [](const added_token& t) { return t.lstrip || t.rstrip; });
  if (factor == 0 || strips || drops_text(splitter) || !model_.keeps_text(is_byte_level(splitter))) return 0;
  std::size_t longest = 4;
  for (const auto& e : tokens_) longest = std::max(longest, e.token.size());
  for (const auto& t : added_)
    if (t.normalized && normalizer_) longest = std::max(longest, normalizer_(t.content).size());
  return longest * factor;
}

// The first of two entries with one spelling stays. A spelling of the vocabulary keeps its id there.
void hf_tokenizer::add(added_token token) {
  if (token.content.empty() || added_ids_.contains(token.content)) return;
  if (const auto id = model_.id_of(token.content)) token.id = *id;
  added_ids_.emplace(token.content, token.id);
  added_.push_back(std::move(token));
}

void hf_tokenizer::index_tokens(const std::string& origin) {
  std::int32_t highest = -1;
  for (const auto& [token, id] : model_.tokens()) highest = std::max(highest, id);
  for (const auto& token : added_) highest = std::max(highest, token.id);
  if (highest > highest_id) {
    throw malformed(fmt::format("{}: id {} is beyond the supported {}", origin, highest, highest_id));
  }
  tokens_.resize(static_cast<std::size_t>(highest) + 1);
  for (const auto& [token, id] : model_.tokens())
    tokens_[static_cast<std::size_t>(id)] = {token, true, false};
  for (const auto& token : added_)
    tokens_[static_cast<std::size_t>(token.id)] = {token.content, true, token.special};
}

const hf_tokenizer::entry* hf_tokenizer::find(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= tokens_.size()) return nullptr;
  const entry& e = tokens_[static_cast<std::size_t>(id)];
  return e.known ? &e : nullptr;
}

void hf_tokenizer::encode_plain(std::string section, bool begins_text, std::vector<std::int32_t>& ids) const {
  if (section.empty()) return;
  if (!pre_tokenizer_) {
    model_.encode(section, ids);
    return;
  }
  std::vector<text_piece> pieces;
  pieces.push_back({std::move(section), begins_text});
  for (const auto& piece : pre_tokenizer_(std::move(pieces))) model_.encode(piece.text, ids);
}

void hf_tokenizer::encode_section(std::string_view section, bool begins_text,
                                  std::vector<std::int32_t>& ids) const {
  std::string text(section);
  if (normalizer_) text = normalizer_(std::move(text));
  if (normalized_tokens_.empty()) {
    encode_plain(std::move(text), begins_text, ids);
    return;
  }
  for (const auto& span : normalized_tokens_.split(text)) {
    if (span.id >= 0) {
      ids.push_back(span.id);
    } else {
      encode_plain(text.substr(span.begin, span.end - span.begin), begins_text && span.begin == 0, ids);
    }
  }
}

std::vector<std::int32_t> hf_tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::string clean;
  if (!utf8::is_valid(text)) {
    clean = utf8::sanitize(text);
    text = clean;
  }
  std::vector<std::int32_t> ids;
  for (const auto& span : raw_tokens_.split(text)) {
    if (span.id >= 0) {
      ids.push_back(span.id);
    } else {
      encode_section(text.substr(span.begin, span.end - span.begin), span.begin == 0, ids);
    }
  }
  return add_special_tokens && post_processor_ ? post_processor_(std::move(ids)) : ids;
}

std::string hf_tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  stream s(*this, skip_special_tokens);
  std::string text;
  for (const std::int32_t id : ids) text += s.push(id);
  return text + s.finish();
}

std::unique_ptr<decoding> hf_tokenizer::start_decoding(bool skip_special_tokens) const {
  return std::make_unique<stream>(*this, skip_special_tokens);
}

std::string hf_tokenizer::token_bytes(std::int32_t id) const {
  const entry* e = find(id);
  return e == nullptr ? std::string() : decoder_.in_text(e->token);
}

std::optional<std::int32_t> hf_tokenizer::id_of(std::string_view token) const {
  const auto added = added_ids_.find(token);
  return added != added_ids_.end() ? std::optional(added->second) : model_.id_of(token);
}

bool hf_tokenizer::is_special(std::int32_t id) const {
  const entry* e = find(id);
  return e != nullptr && e->special;
}

}  // namespace troupe::text
