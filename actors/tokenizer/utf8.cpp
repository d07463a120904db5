#include "actors/tokenizer/utf8.hpp"

#include <utf8proc.h>

namespace troupe::text::utf8 {
namespace {

struct lead {
  int more;           // continuation bytes that follow
  unsigned char low;  // allowed range of the first of them
  unsigned char high;
};

lead classify(unsigned char b) {
  if (b < 0x80) return {0, 0, 0};
  if (b >= 0xC2 && b <= 0xDF) return {1, 0x80, 0xBF};
  if (b == 0xE0) return {2, 0xA0, 0xBF};
  if (b == 0xED) return {2, 0x80, 0x9F};  // no surrogates
  if (b >= 0xE1 && b <= 0xEF) return {2, 0x80, 0xBF};
  if (b == 0xF0) return {3, 0x90, 0xBF};
  if (b >= 0xF1 && b <= 0xF3) return {3, 0x80, 0xBF};
  if (b == 0xF4) return {3, 0x80, 0x8F};
  return {-1, 0, 0};
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

}  // namespace

code_point read(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const lead l = classify(first);
  if (l.more == 0) return {first, 1, true, false};
  if (l.more < 0) return {0xFFFD, 1, false, false};
  char32_t value = first & (0x3Fu >> l.more);
  for (int i = 1; i <= l.more; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (at >= text.size()) return {0xFFFD, at, false, true};
    const auto b = static_cast<unsigned char>(text[at]);
    const bool fits = i == 1 ? b >= l.low && b <= l.high : (b & 0xC0u) == 0x80u;
    if (!fits) return {0xFFFD, at, false, false};
    value = (value << 6) | (b & 0x3Fu);
  }
  return {value, static_cast<std::size_t>(l.more) + 1, true, false};
}

code_point read_valid(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
  const char32_t first = byte(0);
  if (first < 0x80) return {first, 1, true, false};
  if (first < 0xE0) return {((first & 0x1F) << 6) | (byte(1) & 0x3F), 2, true, false};
  if (first < 0xF0) {
    return {((first & 0x0F) << 12) | ((byte(1) & 0x3F) << 6) | (byte(2) & 0x3F), 3, true, false};
  }
  return {((first & 0x07) << 18) | ((byte(1) & 0x3F) << 12) | ((byte(2) & 0x3F) << 6) | (byte(3) & 0x3F), 4,
          true, false};
}

void append(std::string& out, char32_t c) {
  const auto put = [&](char32_t b) { out.push_back(static_cast<char>(static_cast<unsigned char>(b))); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool is_valid(std::string_view text) {
  while (!text.empty()) {
    const code_point c = read(text);
    if (!c.valid) return false;
    text.remove_prefix(c.bytes);
  }
  return true;
}

std::string sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const code_point c = read(text);
    out.append(c.valid ? text.substr(0, c.bytes) : replacement);
    text.remove_prefix(c.bytes);
  }
  return out;
}

std::size_t incomplete_tail(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    if ((static_cast<unsigned char>(tail[0]) & 0xC0u) == 0x80u) continue;
    const code_point c = read(tail);
    return c.incomplete && c.bytes == back ? back : 0;
  }
  return 0;
}

std::size_t length(std::string_view text) {
  std::size_t n = 0;
  for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
  return n;
}

std::size_t offset(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  while (index > 0 && at < text.size()) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) ++at;
    --index;
  }
  return at;
}

bool is_whitespace(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_python_space(char32_t c) {
  return is_whitespace(c) || (c >= 0x1C && c <= 0x1F);
}

bool is_numeric(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_alphabetic(char32_t c) {
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool is_mark(char32_t c) {
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_MN && k <= UTF8PROC_CATEGORY_ME;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

bool is_word(char32_t c) {
  const auto k = category(c);
  return is_alphabetic(c) || is_mark(c) || k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL ||
         k == UTF8PROC_CATEGORY_PC || c == 0x200C || c == 0x200D;
}

bool is_printable(char32_t c) {
  const auto k = category(c);
  return k != UTF8PROC_CATEGORY_CN && k != UTF8PROC_CATEGORY_CC && k != UTF8PROC_CATEGORY_CF &&
         k != UTF8PROC_CATEGORY_CS && k != UTF8PROC_CATEGORY_CO;
}

bool is_upper(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU;
}
bool is_lower(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LL;
}

void append_lower(std::string& out, char32_t c) {
  if (c == 0x130) {  // I with dot: the only letter whose small form is two code points
    out.append("i\xCC\x87");
    return;
  }
  append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

void append_upper(std::string& out, char32_t c) {
  switch (c) {
    case 0xDF:
      out.append("SS");
      return;
    case 0x149:
      out.append("\xCA\xBCN");
      return;
    case 0x1F0:
      out.append("J\xCC\x8C");
      return;
    case 0xFB00:
      out.append("FF");
      return;
    case 0xFB01:
      out.append("FI");
      return;
    case 0xFB02:
      out.append("FL");
      return;
    case 0xFB03:
      out.append("FFI");
      return;
    case 0xFB04:
      out.append("FFL");
      return;
    case 0xFB05:
    case 0xFB06:
      out.append("ST");
      return;
    default:
      append(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  }
}

void append_title(std::string& out, char32_t c) {
  if (c == 0xDF) {
    out.append("Ss");
  } else if (c >= 0xFB00 && c <= 0xFB06) {
    std::string upper;
    append_upper(upper, c);
    out.append(upper.substr(0, 1) + to_lower(std::string_view(upper).substr(1)));
  } else if (c == 0x149 || c == 0x1F0) {
    append_upper(out, c);
  } else {
    append(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  }
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (; !text.empty(); text.remove_prefix(read_valid(text).bytes)) append_lower(out, read_valid(text).value);
  return out;
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (; !text.empty(); text.remove_prefix(read_valid(text).bytes)) append_upper(out, read_valid(text).value);
  return out;
}

}  // namespace troupe::text::utf8
