// "normalizer" of tokenizer.json: text to text, before it is cut into pieces.
#pragma once

#include <functional>
#include <string>

#include "actors/tokenizer/json_reader.hpp"

namespace troupe::text {

// Valid UTF-8 in and out. Any thread.
using normalizer = std::function<std::string(std::string)>;

// Throws malformed. Null settings give an empty function: text stays as it is.
normalizer make_normalizer(const setting& s);

// How many bytes of text one byte of its output stands for at most; 0 = no such bound is known.
std::size_t most_shrinking(const setting& s);

// {"String": "..."} or {"Regex": "..."}: a function that finds all matches. Shared with pre-tokenizers and
// decoders.
struct text_pattern {
  std::function<std::vector<std::pair<std::size_t, std::size_t>>(std::string_view)> find;  // byte ranges
  std::string plain;  // the string, if it is one
  bool is_plain = false;

  std::string replace(std::string_view text, std::string_view by) const;
};
text_pattern make_pattern(const setting& s);

// The printable stand-ins of bytes that byte-level vocabularies are written in.
std::string bytes_to_letters(std::string_view bytes);
// The bytes of such a token; a token with any other letter stands for its own UTF-8.
std::string letters_to_bytes(std::string_view token);

}  // namespace troupe::text
