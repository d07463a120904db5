// "pre_tokenizer" of tokenizer.json: cuts normalized text into the pieces inside which tokens are merged.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "actors/tokenizer/json_reader.hpp"

namespace troupe::text {

struct text_piece {
  std::string text;          // valid UTF-8
  bool begins_text = false;  // nothing stood before it in the whole text
};

// Any thread.
using pre_tokenizer = std::function<std::vector<text_piece>(std::vector<text_piece>)>;

// Throws malformed. Null settings give an empty function: the text is one piece.
pre_tokenizer make_pre_tokenizer(const setting& s);

// Whether some text may appear in none of the pieces.
bool drops_text(const setting& s);
// Whether the pieces are written in the stand-ins of bytes.
bool is_byte_level(const setting& s);

}  // namespace troupe::text
