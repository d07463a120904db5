#include "actors/tokenizer/jinja/strings.hpp"

#include <algorithm>
#include <limits>

#include "actors/tokenizer/utf8.hpp"

namespace troupe::text::jinja {
namespace {

std::size_t last_letter(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) --at;
  return at;
}

bool strips(std::string_view letter, const std::optional<std::string>& letters) {
  return letters ? letters->find(letter) != std::string::npos
                 : utf8::is_python_space(utf8::read_valid(letter).value);
}

std::string_view strip_view(std::string_view text, const std::optional<std::string>& letters, bool left,
                            bool right) {
  while (left && !text.empty()) {
    const std::string_view letter = text.substr(0, utf8::read_valid(text).bytes);
    if (!strips(letter, letters)) break;
    text.remove_prefix(letter.size());
  }
  while (right && !text.empty()) {
    const std::size_t at = last_letter(text);
    if (!strips(text.substr(at), letters)) break;
    text = text.substr(0, at);
  }
  return text;
}

std::size_t cuts(integer limit) {
  return limit < 0 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(limit);
}

// Byte offset of the first white space, or npos.
std::size_t find_space(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto c = utf8::read_valid(text.substr(at));
    if (utf8::is_python_space(c.value)) return at;
    at += c.bytes;
  }
  return std::string_view::npos;
}

// Byte offset behind the last white space; 0 if there is none.
std::size_t behind_last_space(std::string_view text) {
  while (!text.empty()) {
    const std::size_t at = last_letter(text);
    if (utf8::is_python_space(utf8::read_valid(text.substr(at)).value)) return text.size();
    text = text.substr(0, at);
  }
  return 0;
}

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

std::string strip(std::string_view text, const std::optional<std::string>& letters, bool left, bool right) {
  return std::string(strip_view(text, letters, left, right));
}

std::string replace(budget& b, std::string_view text, std::string_view old, std::string_view by,
                    integer count) {
  std::size_t left = cuts(count);
  std::string out;
  const auto put = [&](std::string_view part) {
    out.append(part);
    b.fits(out.size());
  };
  if (old.empty()) {  // before each letter and at the end
    while (left > 0) {
      put(by);
      --left;
      if (text.empty()) return out;
      const std::size_t n = utf8::read_valid(text).bytes;
      put(text.substr(0, n));
      text.remove_prefix(n);
    }
    put(text);
    return out;
  }
  for (std::size_t at = text.find(old); at != std::string_view::npos && left > 0;
       at = text.find(old), --left) {
    put(text.substr(0, at));
    put(by);
    text.remove_prefix(at + old.size());
  }
  put(text);
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  if (text.empty()) return out;
  const auto first = utf8::read_valid(text);
  utf8::append_title(out, first.value);
  return out + utf8::to_lower(text.substr(first.bytes));
}

std::string title(std::string_view text) {
  std::string out;
  bool inside = false;
  for (; !text.empty(); text.remove_prefix(utf8::read_valid(text).bytes)) {
    const char32_t c = utf8::read_valid(text).value;
    inside ? utf8::append_lower(out, c) : utf8::append_title(out, c);
    inside = utf8::is_alphabetic(c);
  }
  return out;
}

std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator,
                               integer limit) {
  std::vector<std::string> out;
  std::size_t left = cuts(limit);
  if (separator) {
    for (std::size_t at = text.find(*separator); at != std::string_view::npos && left > 0;
         at = text.find(*separator), --left) {
      out.emplace_back(text.substr(0, at));
      text.remove_prefix(at + separator->size());
    }
    out.emplace_back(text);
    return out;
  }
  text = strip_view(text, std::nullopt, true, false);
  while (!text.empty()) {
    const std::size_t at = left > 0 ? find_space(text) : std::string_view::npos;
    if (at == std::string_view::npos) {
      out.emplace_back(text);
      break;
    }
    out.emplace_back(text.substr(0, at));
    text = strip_view(text.substr(at), std::nullopt, true, false);
    --left;
  }
  return out;
}

std::vector<std::string> split_from_right(std::string_view text, const std::optional<std::string>& separator,
                                          integer limit) {
  std::vector<std::string> out;
  std::size_t left = cuts(limit);
  if (separator) {
    for (std::size_t at = text.rfind(*separator); at != std::string_view::npos && left > 0;
         at = text.rfind(*separator), --left) {
      out.emplace_back(text.substr(at + separator->size()));
      text = text.substr(0, at);
    }
    out.emplace_back(text);
  } else {
    text = strip_view(text, std::nullopt, false, true);
    while (!text.empty()) {
      const std::size_t at = left > 0 ? behind_last_space(text) : 0;
      out.emplace_back(text.substr(at));
      if (at == 0) break;
      text = strip_view(text.substr(0, at), std::nullopt, false, true);
      --left;
    }
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string> split_at(std::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) c == separator ? void(parts.emplace_back()) : parts.back().push_back(c);
  return parts;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> out;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto c = utf8::read_valid(text.substr(at));
    std::size_t next = at + c.bytes;
    if (is_line_end(c.value)) {
      if (c.value == '\r' && next < text.size() && text[next] == '\n') ++next;
      out.emplace_back(text.substr(0, keep_ends ? next : at));
      text.remove_prefix(next);
      at = 0;
    } else {
      at = next;
    }
  }
  if (!text.empty()) out.emplace_back(text);
  return out;
}

}  // namespace troupe::text::jinja
