// The tokenizer that tokenizer.json describes: normalizer -> pre-tokenizer -> BPE -> post-processor, and the
// decoder.
#pragma once

#include <boost/json/value.hpp>

#include "actors/tokenizer/added_tokens.hpp"
#include "actors/tokenizer/bpe.hpp"
#include "actors/tokenizer/decoders.hpp"
#include "actors/tokenizer/normalizers.hpp"
#include "actors/tokenizer/post_processors.hpp"
#include "actors/tokenizer/pre_tokenizers.hpp"
#include "actors/tokenizer/tokenizer.hpp"

namespace troupe::text {

// What tokenizer_config.json and its companions say.
struct tokenizer_names {
  std::string bos, eos, unk, pad;
  boost::json::object special;  // all of them, by name
  std::string chat_template;
  std::vector<added_token> added;  // added_tokens_decoder
};

class hf_tokenizer : public tokenizer {
 public:
  // `document` is tokenizer.json and is not kept. Throws malformed.
  hf_tokenizer(const boost::json::value& document, tokenizer_names names);

  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens) const override;
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const override;
  std::unique_ptr<decoding> start_decoding(bool skip_special_tokens) const override;
  std::string token_bytes(std::int32_t id) const override;
  std::optional<std::int32_t> id_of(std::string_view token) const override;
  bool is_special(std::int32_t id) const override;
  std::int32_t vocabulary_size() const override { return static_cast<std::int32_t>(tokens_.size()); }

  const std::string& bos_token() const override { return names_.bos; }
  const std::string& eos_token() const override { return names_.eos; }
  const std::string& unk_token() const override { return names_.unk; }
  const std::string& pad_token() const override { return names_.pad; }
  const std::string& chat_template() const override { return names_.chat_template; }
  const boost::json::object& special_tokens() const override { return names_.special; }
  std::size_t longest_token_bytes() const override { return longest_token_bytes_; }

 private:
  struct entry {
    std::string token;
    bool known = false;
    bool special = false;
  };
  class stream;

  void add(added_token token);
  void index_tokens(const std::string& origin);
  std::size_t measure_tokens(const boost::json::value& document) const;
  const entry* find(std::int32_t id) const;
  void encode_section(std::string_view section, bool begins_text, std::vector<std::int32_t>& ids) const;
  void encode_plain(std::string section, bool begins_text, std::vector<std::int32_t>& ids) const;

  tokenizer_names names_;
  normalizer normalizer_;
  pre_tokenizer pre_tokenizer_;
  bpe_model model_;
  post_processor post_processor_;
  decoder decoder_;
  std::vector<added_token> added_;
  vocabulary added_ids_;
  added_token_finder raw_tokens_;         // looked for in the text as given
  added_token_finder normalized_tokens_;  // looked for after normalization
  std::vector<entry> tokens_;             // by id
  std::size_t longest_token_bytes_ = 0;
};

}  // namespace troupe::text
