#include "actors/tokenizer/jinja/lexer.hpp"

#include <algorithm>
#include <array>

#include "actors/tokenizer/jinja/budget.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text::jinja {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_part(char c) {
  return is_name_start(c) || is_digit(c);
}

// \r\n and \r become \n, and one newline at the end goes.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool all_space(std::string_view text) {
  for (; !text.empty(); text.remove_prefix(utf8::read_valid(text).bytes)) {
    if (!utf8::is_python_space(utf8::read_valid(text).value)) return false;
  }
  return true;
}

class scanner {
 public:
  explicit scanner(std::string_view source) : text_(normalize_newlines(source)) {}

  std::vector<token> run() {
    while (at_ < text_.size()) scan_text();
    add(token_kind::end, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(text_).substr(at_); }
  bool ahead(std::string_view what) const { return rest().starts_with(what); }

  void add(token_kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void advance(std::size_t bytes) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(at_ + bytes), '\n'));
    at_ += bytes;
  }

  void skip_space() {
    while (at_ < text_.size()) {
      const auto c = utf8::read_valid(rest());
      if (!utf8::is_python_space(c.value)) return;
      advance(c.bytes);
    }
  }

  [[noreturn]] void refuse(std::string what) const { throw failure{std::move(what), line_}; }

  // Text up to the next tag, then the tag.
  void scan_text() {
    std::size_t tag = at_;
    while (true) {
      tag = text_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= text_.size()) {
        tag = text_.size();
        break;
      }
      if (const char c = text_[tag + 1]; c == '%' || c == '{' || c == '#') break;
      ++tag;
    }
    std::string_view data = std::string_view(text_).substr(at_, tag - at_);
    const char kind = tag < text_.size() ? text_[tag + 1] : '\0';
    const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
    put_data(data, kind, sign);
    advance(tag - at_);
    if (kind == '\0') return;
    advance(2);
    if (sign == '-' || sign == '+') advance(1);
    if (kind == '#') scan_comment();
    if (kind == '%') scan_block();
    if (kind == '{') {
      add(token_kind::variable_begin, "{{");
      scan_expression("}}", token_kind::variable_end);
    }
  }

  // The text before a tag, after what the tag strips from it.
  void put_data(std::string_view data, char kind, char sign) {
    if (kind != '\0' && sign == '-') {
      data = strip_right(data);
    } else if ((kind == '%' || kind == '#') && sign != '+') {
      const auto newline = data.rfind('\n');
      const std::size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line_begin > 0 || line_starts_) && all_space(data.substr(line_begin)))
        data = data.substr(0, line_begin);
    }
    if (!data.empty()) add(token_kind::data, std::string(data));
  }

  static std::string_view strip_right(std::string_view data) {
    std::size_t keep = 0;
    for (std::size_t i = 0; i < data.size();) {
      const auto c = utf8::read_valid(data.substr(i));
      i += c.bytes;
      if (!utf8::is_python_space(c.value)) keep = i;
    }
    return data.substr(0, keep);
  }

  // `ending` stands here, maybe with a sign before it: consumes it and what it strips.
  void finish_tag(std::string_view ending, char sign) {
    advance((sign == '\0' ? 0 : 1) + ending.size());
    line_starts_ = false;
    if (sign == '-') {
      const std::size_t before = at_;
      skip_space();
      line_starts_ = at_ > before && text_[at_ - 1] == '\n';
    } else if (sign == '\0' && ending != "}}" && ahead("\n")) {
      advance(1);
      line_starts_ = true;
    }
  }

  void scan_comment() {
    const auto end = text_.find("#}", at_);
    if (end == std::string::npos) refuse("a comment {# is not closed with #}");
    const char before = end > at_ ? text_[end - 1] : '\0';
    const char sign = before == '-' || before == '+' ? before : '\0';
    advance(end - at_ - (sign == '\0' ? 0 : 1));
    finish_tag("#}", sign);
  }

  void scan_block() {
    if (scan_raw()) return;
    add(token_kind::block_begin, "{%");
    scan_expression("%}", token_kind::block_end);
  }

  // {% raw %} ... {% endraw %}
  bool scan_raw() {
    const std::size_t saved = at_;
    const int saved_line = line_;
    const auto back = [&] {
      at_ = saved;
      line_ = saved_line;
      return false;
    };
    skip_space();
    if (!ahead("raw")) return back();
    advance(3);
    skip_space();
    if (!ahead("%}") && !ahead("-%}")) return back();
    const bool strips = ahead("-");
    advance(strips ? 3 : 2);
    if (strips) skip_space();
    line_starts_ = at_ > 0 && text_[at_ - 1] == '\n';
    scan_raw_text();
    return true;
  }

  void scan_raw_text() {
    for (std::size_t tag = text_.find("{%", at_); tag != std::string::npos; tag = text_.find("{%", tag + 2)) {
      std::size_t i = tag + 2;
      const char sign = i < text_.size() && (text_[i] == '-' || text_[i] == '+') ? text_[i] : '\0';
      if (sign != '\0') ++i;
      while (i < text_.size() && utf8::is_python_space(static_cast<unsigned char>(text_[i]))) ++i;
      if (!std::string_view(text_).substr(i).starts_with("endraw")) continue;
      i += 6;
      while (i < text_.size() && utf8::is_python_space(static_cast<unsigned char>(text_[i]))) ++i;
      const char closing = i < text_.size() && (text_[i] == '-' || text_[i] == '+') ? text_[i] : '\0';
      if (!std::string_view(text_).substr(i + (closing == '\0' ? 0 : 1)).starts_with("%}")) continue;
      put_data(std::string_view(text_).substr(at_, tag - at_), '%', sign);
      advance(i - at_);
      finish_tag("%}", closing);
      return;
    }
    refuse("{% raw %} is not closed with {% endraw %}");
  }

  void scan_expression(std::string_view ending, token_kind end_kind) {
    std::vector<char> open;
    while (true) {
      skip_space();
      if (at_ >= text_.size()) refuse(fmt::format("the template ends inside a tag; '{}' is missing", ending));
      if (open.empty()) {
        const char sign = ahead("-") || (ahead("+") && ending == "%}") ? text_[at_] : '\0';
        if (rest().substr(sign == '\0' ? 0 : 1).starts_with(ending)) {
          add(end_kind, std::string(ending));
          finish_tag(ending, sign);
          return;
        }
      }
      scan_token(open);
    }
  }

  void scan_token(std::vector<char>& open) {
    const char c = text_[at_];
    if (c == '\'' || c == '"') {
      scan_string(c);
    } else if (is_digit(c)) {
      scan_number();
    } else if (is_name_start(c)) {
      std::size_t n = 1;
      while (at_ + n < text_.size() && is_name_part(text_[at_ + n])) ++n;
      add(token_kind::name, text_.substr(at_, n));
      advance(n);
    } else {
      scan_operator(open);
    }
  }

  void scan_operator(std::vector<char>& open) {
    static constexpr std::array<std::string_view, 25> operators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
    for (const auto candidate : operators) {
      if (!ahead(candidate)) continue;
      balance(open, candidate[0]);
      add(token_kind::op, std::string(candidate));
      advance(candidate.size());
      return;
    }
    if (ahead(";")) {
      add(token_kind::op, ";");
      advance(1);
      return;
    }
    refuse(fmt::format("unexpected character '{}'", rest().substr(0, utf8::read_valid(rest()).bytes)));
  }

  void balance(std::vector<char>& open, char c) const {
    if (c == '(') open.push_back(')');
    if (c == '[') open.push_back(']');
    if (c == '{') open.push_back('}');
    if (c != ')' && c != ']' && c != '}') return;
    if (open.empty()) refuse(fmt::format("unexpected '{}'", c));
    if (open.back() != c) refuse(fmt::format("unexpected '{}', expected '{}'", c, open.back()));
    open.pop_back();
  }

  void scan_string(char quote) {
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) refuse(fmt::format("a string that begins with {} is not closed", quote));
    add(token_kind::string, unescape(std::string_view(text_).substr(at_ + 1, end - at_ - 1)));
    advance(end + 1 - at_);
  }

  std::string unescape(std::string_view raw) const {
    std::string out;
    while (!raw.empty()) {
      if (raw[0] != '\\' || raw.size() == 1) {
        out += raw[0];
        raw.remove_prefix(1);
      } else {
        raw.remove_prefix(1 + unescape_one(raw.substr(1), out));
      }
    }
    return out;
  }

  // `rest` follows the backslash. Returns how much of it belongs to the escape.
  std::size_t unescape_one(std::string_view rest, std::string& out) const {
    static constexpr std::string_view simple = "\\'\"abfnrtv";
    static constexpr std::string_view meaning = "\\'\"\a\b\f\n\r\t\v";
    const char c = rest[0];
    if (const auto i = simple.find(c); i != std::string_view::npos) {
      out += meaning[i];
      return 1;
    }
    if (c == '\n') return 1;  // a line goes on
    if (c == 'x') return 1 + code_point(rest.substr(1), 2, 16, out);
    if (c == 'u') return 1 + code_point(rest.substr(1), 4, 16, out);
    if (c == 'U') return 1 + code_point(rest.substr(1), 8, 16, out);
    if (c >= '0' && c <= '7') {
      std::size_t n = 1;
      while (n < 3 && n < rest.size() && rest[n] >= '0' && rest[n] <= '7') ++n;
      return code_point(rest, n, 8, out);
    }
    out += '\\';
    return 0;
  }

  std::size_t code_point(std::string_view digits, std::size_t n, int base, std::string& out) const {
    const std::string text(digits.substr(0, n));
    if (text.size() < n || text.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
      refuse("a string holds an unfinished \\x, \\u or \\U escape");
    }
    const unsigned long c = std::stoul(text, nullptr, base);
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) refuse("a string holds an escape that is no code point");
    utf8::append(out, static_cast<char32_t>(c));
    return n;
  }

  // Digits with single underscores between them.
  std::size_t digits(std::size_t from, std::string_view allowed) const {
    std::size_t i = from;
    while (i < text_.size() && (allowed.find(text_[i]) != std::string_view::npos ||
                                (text_[i] == '_' && i > from && i + 1 < text_.size() &&
                                 allowed.find(text_[i + 1]) != std::string_view::npos))) {
      ++i;
    }
    return i - from;
  }

  void scan_number() {
    static constexpr std::string_view ten = "0123456789";
    if (text_[at_] == '0' && at_ + 1 < text_.size()) {
      const char base = static_cast<char>(text_[at_ + 1] | 0x20);
      const int b = base == 'x' ? 16 : base == 'o' ? 8 : base == 'b' ? 2 : 0;
      if (b != 0) return scan_based(b);
    }
    std::size_t n = digits(at_, ten);
    bool real = false;
    const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';  // x.0.1 is two indexes
    if (!after_dot && at_ + n + 1 < text_.size() && text_[at_ + n] == '.' && is_digit(text_[at_ + n + 1])) {
      n += 1 + digits(at_ + n + 1, ten);
      real = true;
    }
    if (!after_dot && at_ + n < text_.size() && (text_[at_ + n] | 0x20) == 'e') {
      std::size_t exponent = n + 1;
      if (at_ + exponent < text_.size() && (text_[at_ + exponent] == '+' || text_[at_ + exponent] == '-'))
        ++exponent;
      if (const std::size_t more = digits(at_ + exponent, ten); more > 0) {
        n = exponent + more;
        real = true;
      }
    }
    std::string text = text_.substr(at_, n);
    std::erase(text, '_');
    add(real ? token_kind::real : token_kind::whole, std::move(text));
    advance(n);
  }

  void scan_based(int base) {
    const std::size_t n = digits(at_ + 2, base == 16  ? "0123456789abcdefABCDEF"
                                          : base == 8 ? "01234567"
                                                      : "01");
    std::string text = text_.substr(at_ + 2, n);
    std::erase(text, '_');
    if (text.empty() || text.size() > 15) refuse("a number in base 2, 8 or 16 is empty or too long");
    add(token_kind::whole, std::to_string(std::stoull(text, nullptr, base)));
    advance(n + 2);
  }

  std::string text_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::vector<token> tokens_;
};

}  // namespace

std::vector<token> tokenize(std::string_view source) {
  return scanner(source).run();
}

std::string describe(const token& t) {
  switch (t.kind) {
    case token_kind::end:
      return "the end of the template";
    case token_kind::name:
      return fmt::format("name '{}'", t.text);
    case token_kind::string:
      return fmt::format("string '{}'", t.text);
    case token_kind::data:
      return "text";
    default:
      return fmt::format("'{}'", t.text);
  }
}

}  // namespace troupe::text::jinja
