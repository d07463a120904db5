// A small strict JSON reader for config.json: the whole text or an error, numbers of the type that was asked for or an
// error, no key twice. Errors are config_error and name the key by its path: "rope_parameters.rope_theta".
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <troupe/sdk/errors.hpp>
#include <type_traits>
#include <utility>
#include <vector>

namespace troupe::sdk {

class json {
 public:
  enum class kind { null, boolean, integer, number, string, array, object };

  static json parse(std::string_view text);

  kind type() const { return kind_; }
  const std::string& path() const { return path_; }  // empty for the root
  const std::vector<json>& items() const { return items_; }
  const std::vector<std::pair<std::string, json>>& members() const { return members_; }

  // The member of that name; null if there is none or its value is null: published files write null for "not set".
  const json* find(std::string_view key) const {
    for (const auto& [name, value] : members_)
      if (name == key) return value.kind_ == kind::null ? nullptr : &value;
    return nullptr;
  }

  // Of a member, whether it is there or not.
  std::string path_of(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }

  // The key is there, and its value is null.
  bool is_null(std::string_view key) const {
    for (const auto& [name, value] : members_)
      if (name == key) return value.kind_ == kind::null;
    return false;
  }

  // config.get<std::uint32_t>("hidden_size"): required. T: bool, std::string, integers, float, double, or a vector of these.
  template <class T>
  T get(std::string_view key) const {
    const json* value = find(key);
    if (value == nullptr) throw config_error(path_of(key) + ": the key is missing");
    return value->as<T>();
  }

  // The same, with what an absent key means.
  template <class T>
  T get_or(std::string_view key, T absent) const {
    const json* value = find(key);
    return value == nullptr ? absent : value->as<T>();
  }

  template <class T>
  T as() const {
    if constexpr (std::is_same_v<T, bool>) {
      if (kind_ != kind::boolean) wrong("true or false");
      return integer_ != 0;
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (kind_ != kind::string) wrong("a string");
      return string_;
    } else if constexpr (std::is_integral_v<T>) {
      using limits = std::numeric_limits<T>;
      const bool fits =
          integer_ < 0 ? std::is_signed_v<T> && integer_ >= static_cast<std::int64_t>(limits::min())
                       : static_cast<std::uint64_t>(integer_) <= static_cast<std::uint64_t>(limits::max());
      if (kind_ != kind::integer || !fits)
        wrong(("an integer from " + std::to_string(limits::min()) + " to " + std::to_string(limits::max()))
                  .c_str());
      return static_cast<T>(integer_);
    } else if constexpr (std::is_floating_point_v<T>) {
      if (kind_ != kind::integer && kind_ != kind::number) wrong("a number");
      return static_cast<T>(number_);
    } else {  // std::vector<U>
      if (kind_ != kind::array) wrong("a list");
      T out;
      for (const auto& item : items_) out.push_back(item.template as<typename T::value_type>());
      return out;
    }
  }

  // "12", "\"silu\"", "an object": for messages.
  std::string describe() const {
    switch (kind_) {
      case kind::null:
        return "null";
      case kind::boolean:
        return integer_ != 0 ? "true" : "false";
      case kind::integer:
      case kind::number:
        return text_;
      case kind::string:
        return "\"" + (string_.size() > 40 ? string_.substr(0, 40) + "..." : string_) + "\"";
      case kind::array:
        return "a list";
      case kind::object:
        break;
    }
    return "an object";
  }

  // Throws config_error: "<path>: expected <what>, found <value>"; the root has no path.
  [[noreturn]] void wrong(const char* expected) const {
    throw config_error((path_.empty() ? "" : path_ + ": ") + "expected " + expected + ", found " +
                       describe());
  }

 private:
  friend class json_parser;
  kind kind_ = kind::null;
  std::int64_t integer_ = 0;  // integer, boolean
  double number_ = 0;         // integer, number
  std::string string_;
  std::string text_;  // integer, number: as written
  std::string path_;
  std::vector<json> items_;
  std::vector<std::pair<std::string, json>> members_;
};

class json_parser {
 public:
  explicit json_parser(std::string_view text) : text_(text) {}

  json document() {
    json root = value("", 0);
    blanks();
    if (at_ != text_.size()) fail("text behind its end");
    return root;
  }

 private:
  static constexpr int max_depth = 64;

  [[noreturn]] void fail(const std::string& why) const {
    std::size_t line = 1;
    for (std::size_t i = 0; i < at_ && i < text_.size(); ++i) line += text_[i] == '\n' ? 1 : 0;
    throw config_error("line " + std::to_string(line) + ": not valid JSON: " + why);
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void blanks() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }
  bool take(char c) {
    blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("expected ") + c);
  }

  json value(const std::string& path, int depth) {
    if (depth > max_depth) fail("nested too deeply");
    blanks();
    json out;
    out.path_ = path;
    switch (peek()) {
      case '{':
        object(out, depth);
        break;
      case '[':
        array(out, depth);
        break;
      case '"':
        out.kind_ = json::kind::string;
        out.string_ = string();
        break;
      case 't':
        word("true", out, json::kind::boolean, 1);
        break;
      case 'f':
        word("false", out, json::kind::boolean, 0);
        break;
      case 'n':
        word("null", out, json::kind::null, 0);
        break;
      default:
        number(out);
    }
    return out;
  }

  void object(json& out, int depth) {
    out.kind_ = json::kind::object;
    expect('{');
    if (take('}')) return;
    do {
      blanks();
      if (peek() != '"') fail("expected a key");
      auto key = string();
      for (const auto& member : out.members_)
        if (member.first == key) fail("the key " + out.path_of(key) + " comes twice");
      expect(':');
      auto path = out.path_of(key);
      out.members_.emplace_back(std::move(key), value(path, depth + 1));
    } while (take(','));
    expect('}');
  }

  void array(json& out, int depth) {
    out.kind_ = json::kind::array;
    expect('[');
    if (take(']')) return;
    do {
      const auto path = out.path_ + "[" + std::to_string(out.items_.size()) + "]";
      out.items_.push_back(value(path, depth + 1));
    } while (take(','));
    expect(']');
  }

  void word(std::string_view expected, json& out, json::kind kind, int number) {
    if (text_.substr(at_, expected.size()) != expected) fail("an unknown word");
    at_ += expected.size();
    out.kind_ = kind;
    out.integer_ = number;
  }

  bool digits() {
    const auto begin = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > begin;
  }

  void number(json& out) {
    const auto begin = at_;
    if (peek() == '-') ++at_;
    const auto first = at_;
    if (!digits()) fail("expected a value");
    if (text_[first] == '0' && at_ > first + 1) fail("a number with a leading zero");
    out.kind_ = json::kind::integer;
    if (peek() == '.') {
      ++at_;
      if (!digits()) fail("a number that ends in its point");
      out.kind_ = json::kind::number;
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (!digits()) fail("a number without its exponent");
      out.kind_ = json::kind::number;
    }
    out.text_ = std::string(text_.substr(begin, at_ - begin));
    const char* end = out.text_.data() + out.text_.size();
    if (std::from_chars(out.text_.data(), end, out.number_).ec != std::errc())
      fail("a number that is out of range");
    if (out.kind_ == json::kind::integer &&
        std::from_chars(out.text_.data(), end, out.integer_).ec != std::errc())
      out.kind_ = json::kind::number;  // beyond 64 bits
  }

  std::string string() {
    std::string out;
    ++at_;  // the opening quote
    for (;;) {
      if (at_ >= text_.size()) fail("a string without its end");
      const char c = text_[at_];
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      ++at_;
      if (c == '"') return out;
      if (c == '\\')
        escape(out);
      else
        out += c;
    }
  }

  void escape(std::string& out) {
    const char c = peek();
    ++at_;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        out += c;
        return;
      case 'b':
        out += '\b';
        return;
      case 'f':
        out += '\f';
        return;
      case 'n':
        out += '\n';
        return;
      case 'r':
        out += '\r';
        return;
      case 't':
        out += '\t';
        return;
      case 'u':
        break;
      default:
        fail("an unknown escape in a string");
    }
    std::uint32_t code = hex4();
    if (code >= 0xd800 && code < 0xdc00) {
      if (text_.substr(at_, 2) != "\\u") fail("half of a surrogate pair");
      at_ += 2;
      const auto low = hex4();
      if (low < 0xdc00 || low >= 0xe000) fail("half of a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      fail("half of a surrogate pair");
    }
    append_utf8(out, code);
  }

  std::uint32_t hex4() {
    std::uint32_t code = 0;
    const auto digits_of_code = text_.substr(at_, 4);
    const char* end = digits_of_code.data() + digits_of_code.size();
    const auto parsed = std::from_chars(digits_of_code.data(), end, code, 16);
    if (digits_of_code.size() != 4 || parsed.ec != std::errc() || parsed.ptr != end)
      fail("an unknown escape in a string");
    at_ += 4;
    return code;
  }

  static void append_utf8(std::string& out, std::uint32_t code) {
    const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xc0 | (code >> 6));
      tail(0);
    } else if (code < 0x10000) {
      out += static_cast<char>(0xe0 | (code >> 12));
      tail(6), tail(0);
    } else {
      out += static_cast<char>(0xf0 | (code >> 18));
      tail(12), tail(6), tail(0);
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

inline json json::parse(std::string_view text) {
  return json_parser(text).document();
}

}  // namespace troupe::sdk
