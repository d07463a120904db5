// UTF-8 in and out, and the few Unicode properties that tokenizers and templates ask for.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace troupe::text::utf8 {

inline constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

struct code_point {
  char32_t value = 0;
  std::size_t bytes =
      0;               // at least 1; of a bad sequence, the longest part that could have begun a code point
  bool valid = false;  // false: value is U+FFFD
  bool incomplete = false;  // bad only because the text ends here
};

// Reads the first code point. `text` must not be empty.
code_point read(std::string_view text);
// The same for text known to be valid, without checks.
code_point read_valid(std::string_view text);

void append(std::string& out, char32_t value);

bool is_valid(std::string_view text);

// Each bad sequence becomes one U+FFFD, as Python's errors="replace" and Rust's from_utf8_lossy do.
std::string sanitize(std::string_view text);

// Number of bytes at the end that begin a code point but do not finish it (0 to 3).
std::size_t incomplete_tail(std::string_view text);

// Of valid text:
std::size_t length(std::string_view text);  // code points
std::size_t offset(std::string_view text,
                   std::size_t index);  // byte offset of a code point; text.size() if beyond

bool is_whitespace(char32_t c);  // White_Space property
bool is_python_space(
    char32_t c);              // what Python's str.isspace() says: also the four separators U+001C to U+001F
bool is_numeric(char32_t c);  // general category N
bool is_alphabetic(char32_t c);   // general category L
bool is_mark(char32_t c);         // general category M
bool is_punctuation(char32_t c);  // ASCII punctuation or general category P
bool is_word(char32_t c);         // alphabetic, mark, digit, connector or joiner: what \w of Rust matches
bool is_printable(char32_t c);    // not a control, format, surrogate, private or unassigned code point
bool is_upper(char32_t c);
bool is_lower(char32_t c);

// Whole-text case mappings; one letter may become several (as in a German sharp s).
std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);
void append_lower(std::string& out, char32_t c);
void append_upper(std::string& out, char32_t c);
void append_title(std::string& out, char32_t c);

}  // namespace troupe::text::utf8
