// Text from a stranger, made fit for logs, terminals and JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace troupe {

namespace detail {

// Bytes of the well-formed code point at the start of `text`; 0 = none is there.
inline std::size_t code_point(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  const std::size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  if (length == 1) return 1;
  // Overlong forms, surrogates, beyond U+10FFFF.
  const std::uint8_t second = byte(1);
  const bool wrong = (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
                     (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f);
  // U+0080 to U+009F are control characters, too.
  return wrong || (lead == 0xc2 && second < 0xa0) ? 0 : length;
}

}  // namespace detail

inline constexpr std::size_t longest_message = 4096;  // bytes that are worth keeping of what somebody says

// Valid UTF-8 without control characters (a line break becomes a blank), at most `limit` bytes.
inline std::string clean_text(std::string_view text, std::size_t limit) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = detail::code_point(text);
    const bool control = length == 1 && (static_cast<std::uint8_t>(text[0]) < 0x20 || text[0] == 0x7f);
    const std::string_view piece = length == 0 ? "?" : control ? " " : text.substr(0, length);
    if (out.size() + piece.size() > limit) break;
    out += piece;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace troupe
