// Text to token ids and back, as the checkpoint's tokenizer.json says (Hugging Face tokenizers' format).
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::text {

// Thrown where text meets a regular expression of the checkpoint that gives up on it: encode(), and decode() of the rare
// tokenizers whose decoder has one. Nothing that came before it counts.
class cannot_tokenize : public std::runtime_error {
 public:
  cannot_tokenize(const std::string& reason, std::size_t byte);
};

// A decode() that runs while ids still come. push() gives the text that is certain, maybe none; finish() the rest. One
// thread.
class decoding {
 public:
  virtual ~decoding() = default;
  virtual std::string push(std::int32_t id) = 0;
  virtual std::string finish() = 0;
};

// Immutable after load; any thread.
class tokenizer {
 public:
  virtual ~tokenizer() = default;

  // Ids of UTF-8 text. Invalid bytes are read as U+FFFD. Added and special tokens in the text are recognised.
  virtual std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens) const = 0;

  // Text of ids. Bytes that are no code point become U+FFFD; ids outside the vocabulary have no text.
  virtual std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const = 0;

  // The same text, id by id. May refer to the tokenizer, which must outlive it. The default gives all of it in finish().
  virtual std::unique_ptr<decoding> start_decoding(bool skip_special_tokens) const;

  // The bytes that one token stands for in the middle of a text: " capital", "\xF0\x9F". Empty if outside the vocabulary.
  virtual std::string token_bytes(std::int32_t id) const = 0;

  // By its exact spelling in the vocabulary.
  virtual std::optional<std::int32_t> id_of(std::string_view token) const = 0;
  virtual bool is_special(std::int32_t id) const = 0;
  virtual std::int32_t vocabulary_size() const = 0;  // highest id + 1

  // No token of encode() takes up more bytes of text than this: text of n bytes has at least n / longest ids. 0 = there
  // is no such bound (a normalizer may drop text, white space may be cut away, ...).
  virtual std::size_t longest_token_bytes() const { return 0; }

  // tokenizer_config.json: bos_token, eos_token, ...; empty if absent.
  virtual const std::string& bos_token() const = 0;
  virtual const std::string& eos_token() const = 0;
  virtual const std::string& unk_token() const = 0;
  virtual const std::string& pad_token() const = 0;
  // Jinja source (the "default" one of several); empty if absent.
  virtual const std::string& chat_template() const = 0;

  // All special tokens that a chat template may name, as JSON: "bos_token", "sep_token", ... are strings,
  // "additional_special_tokens" is an array. Those that the checkpoint does not have are absent.
  virtual const boost::json::object& special_tokens() const;
};
using tokenizer_ptr = std::shared_ptr<const tokenizer>;

// Reads tokenizer.json and tokenizer_config.json (chat_template.jinja and special_tokens_map.json where present). Errors:
// not_found, bad_checkpoint (file and key; an unknown component is named with those that are supported).
result<tokenizer_ptr> load_tokenizer(const std::filesystem::path& folder);

// Text of a growing id sequence, given out as soon as it is certain. Never emits part of a code point. One thread.
class incremental_decoder {
 public:
  incremental_decoder(tokenizer_ptr t, bool skip_special_tokens);
  ~incremental_decoder();
  incremental_decoder(incremental_decoder&&) noexcept;
  incremental_decoder& operator=(incremental_decoder&&) noexcept;

  std::string push(std::int32_t id);  // text that is certain now, maybe empty
  std::string finish();               // the rest; an unfinished code point becomes U+FFFD

  // The concatenation of all push() and of finish() equals decode() of all ids.

 private:
  struct state;
  std::unique_ptr<state> state_;
};

// Finds stop strings in text that arrives in pieces. Holds back what may be the beginning of one. One thread.
class stop_matcher {
 public:
  explicit stop_matcher(std::vector<std::string> stops, bool include_stop_string);

  struct outcome {
    std::string text;                // may be given out now
    std::optional<std::string> hit;  // the stop string that was found; text then ends before it (or with it)
  };
  outcome push(std::string_view piece);
  std::string finish();  // what was held back

 private:
  std::vector<std::string> stops_;
  bool include_;
  std::string held_;
};

}  // namespace troupe::text
