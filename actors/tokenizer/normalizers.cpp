#include "actors/tokenizer/normalizers.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <new>

#include "actors/tokenizer/regex.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text {
namespace {

std::string normal_form(const std::string& text, int options) {
  utf8proc_uint8_t* out = nullptr;
  const utf8proc_ssize_t n =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &out, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(out, &std::free);
  if (n < 0) throw std::bad_alloc();  // the text is valid: nothing else can go wrong
  return {reinterpret_cast<const char*>(out), static_cast<std::size_t>(n)};
}

std::string strip(const std::string& text, bool left, bool right) {
  std::size_t begin = text.size();
  std::size_t end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto c = utf8::read_valid(std::string_view(text).substr(at));
    if (!utf8::is_whitespace(c.value)) {
      begin = std::min(begin, at);
      end = at + c.bytes;
    }
    at += c.bytes;
  }
  if (!left) begin = 0;
  if (!right) end = text.size();
  return begin < end ? text.substr(begin, end - begin) : std::string();
}

std::string without_marks(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto c = utf8::read_valid(text);
    if (!utf8::is_mark(c.value)) out.append(text.substr(0, c.bytes));
    text.remove_prefix(c.bytes);
  }
  return out;
}

struct letter_table {
  std::array<char32_t, 256> letter{};
  std::array<int, 512> byte{};

  letter_table() {
    byte.fill(-1);
    char32_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      letter[b] = printable ? b : next++;
      byte[letter[b]] = static_cast<int>(b);
    }
  }
};

const letter_table& letters() {
  static const letter_table table;
  return table;
}

normalizer make_sequence(const setting& s) {
  std::vector<normalizer> steps;
  for (const auto& item : s.at("normalizers").items()) steps.push_back(make_normalizer(item));
  return [steps](std::string text) {
    for (const auto& step : steps) {
      if (step) text = step(std::move(text));
    }
    return text;
  };
}

}  // namespace

std::string text_pattern::replace(std::string_view text, std::string_view by) const {
  std::string out;
  std::size_t at = 0;
  for (const auto& [begin, end] : find(text)) {
    out.append(text.substr(at, begin - at));
    out.append(by);
    at = end;
  }
  out.append(text.substr(at));
  return out;
}

text_pattern make_pattern(const setting& s) {
  const auto pairs = [](const std::vector<span_match>& found) {
    std::vector<std::pair<std::size_t, std::size_t>> out;
    out.reserve(found.size());
    for (const auto& m : found) out.emplace_back(m.begin, m.end);
    return out;
  };
  text_pattern p;
  if (s.is_string() || s.has("String")) {
    p.plain = s.is_string() ? s.string() : s.at("String").string();
    p.is_plain = true;
    p.find = [plain = p.plain, pairs](std::string_view text) { return pairs(find_all(text, plain)); };
    return p;
  }
  if (!s.has("Regex")) s.refuse("expected {\"String\": ...} or {\"Regex\": ...}");
  auto compiled = regex::compile(s.at("Regex").string());
  if (!compiled) s.refuse(compiled.error().text);
  p.find = [r = *compiled, pairs](std::string_view text) { return pairs(r.find_all(text)); };
  return p;
}

std::string bytes_to_letters(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char b : bytes) utf8::append(out, letters().letter[static_cast<unsigned char>(b)]);
  return out;
}

std::string letters_to_bytes(std::string_view token) {
  std::string out;
  for (std::string_view rest = token; !rest.empty();) {
    const auto c = utf8::read_valid(rest);
    const int byte = c.value < letters().byte.size() ? letters().byte[c.value] : -1;
    if (byte < 0) return std::string(token);
    out.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    rest.remove_prefix(c.bytes);
  }
  return out;
}

normalizer make_normalizer(const setting& s) {
  if (s.is_null()) return {};
  const std::string type = s.type({"Sequence", "Prepend", "Replace", "NFC", "NFD", "NFKC", "NFKD",
                                   "Lowercase", "Strip", "StripAccents", "ByteLevel"});
  constexpr int composed = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
  constexpr int decomposed = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  if (type == "Sequence") return make_sequence(s);
  if (type == "Prepend") {
    return [prefix = s.at("prepend").string()](std::string t) { return t.empty() ? t : prefix + t; };
  }
  if (type == "Replace") {
    return [pattern = make_pattern(s.at("pattern")), by = s.at("content").string()](std::string t) {
      return pattern.replace(t, by);
    };
  }
  if (type == "NFC") return [](std::string t) { return normal_form(t, composed); };
  if (type == "NFD") return [](std::string t) { return normal_form(t, decomposed); };
  if (type == "NFKC") return [](std::string t) { return normal_form(t, composed | UTF8PROC_COMPAT); };
  if (type == "NFKD") return [](std::string t) { return normal_form(t, decomposed | UTF8PROC_COMPAT); };
  if (type == "Lowercase") return [](std::string t) { return utf8::to_lower(t); };
  if (type == "StripAccents") return [](std::string t) { return without_marks(t); };
  if (type == "ByteLevel") return [](std::string t) { return bytes_to_letters(t); };
  return [left = s.boolean_or("strip_left", true), right = s.boolean_or("strip_right", true)](std::string t) {
    return strip(t, left, right);
  };
}

std::size_t most_shrinking(const setting& s) {
  if (s.is_null()) return 1;
  const std::string type = s.string_or("type", "");
  if (type == "Prepend" || type == "ByteLevel") return 1;
  if (type == "Replace") {
    const setting pattern = s.at("pattern");
    if (!pattern.is_string() && !pattern.has("String")) return 0;
    const auto old = (pattern.is_string() ? pattern.string() : pattern.at("String").string()).size();
    const auto by = s.at("content").string().size();
    return by == 0 ? 0 : std::max<std::size_t>(1, (old + by - 1) / by);
  }
  if (type != "Sequence") return 0;
  std::size_t factor = 1;
  for (const auto& item : s.at("normalizers").items()) factor *= most_shrinking(item);
  return factor;
}

}  // namespace troupe::text
