// Filters of texts and numbers.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "actors/tokenizer/jinja/filter_table.hpp"
#include "actors/tokenizer/jinja/formatting.hpp"
#include "actors/tokenizer/jinja/operators.hpp"
#include "actors/tokenizer/jinja/strings.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text::jinja {
namespace {

value f_abs(budget&, const value& in, const call_arguments& a) {
  take_none("abs", a);
  must_be_defined(in);
  if (!in.is_number()) raise("bad operand type for abs(): '{}'", type_name(in));
  if (in.is<double>()) return value(std::fabs(in.as<double>()));
  return in.whole() < 0 ? negative(in) : value(in.whole());
}

value f_capitalize(budget& b, const value& in, const call_arguments& a) {
  take_none("capitalize", a);
  return make_string(b, capitalize(to_text(b, in)));
}

value f_default(budget&, const value& in, const call_arguments& a) {
  const bound_arguments p("default", a, {"default_value", "boolean"});
  if (!in.is_undefined() && !(p.flag(1, false) && !truth(in))) return in;
  return p.has(0) ? p.at(0) : value(std::string());
}

value f_escape(budget& b, const value& in, const call_arguments& a) {
  take_none("escape", a);
  std::string out;
  for (const char c : to_text(b, in)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return make_string(b, std::move(out));
}

// The number that `text` is from its first to its last letter, white space around it aside.
std::optional<double> parse_real(std::string_view text) {
  std::string t = strip(text, std::nullopt, true, true);
  std::erase(t, '_');
  if (t.starts_with('+')) t.erase(0, 1);
  double d = 0;
  const auto [end, failed] = std::from_chars(t.data(), t.data() + t.size(), d);
  if (t.empty() || t.starts_with('+') || failed != std::errc() || end != t.data() + t.size())
    return std::nullopt;
  return d;
}

std::optional<integer> parse_whole(std::string_view text, int base) {
  std::string t = utf8::to_lower(strip(text, std::nullopt, true, true));
  std::erase(t, '_');
  const bool minus = t.starts_with('-');
  if (minus || t.starts_with('+')) t.erase(0, 1);
  const char* prefix = base == 16 ? "0x" : base == 8 ? "0o" : base == 2 ? "0b" : "\n";
  if (t.starts_with(prefix)) t.erase(0, 2);
  integer n = 0;
  for (const char c : t) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(n, static_cast<integer>(base), &n) ||
        __builtin_add_overflow(n, static_cast<integer>(digit), &n)) {
      raise("the number {} is too large", t);
    }
  }
  if (t.empty()) return std::nullopt;
  return minus ? -n : n;
}

value truncated(double d, const value& otherwise) {
  if (std::isnan(d)) return otherwise;
  if (std::fabs(d) > 1e37) raise("cannot convert float {} to integer", number_text(d));
  return value(static_cast<integer>(d));
}

value f_int(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("int", a, {"default", "base"});
  must_be_defined(in);
  value otherwise = p.has(0) ? p.at(0) : value(integer{0});
  if (in.is_integral()) return value(in.whole());
  if (in.is<double>()) return truncated(in.as<double>(), otherwise);
  if (!in.is_string()) return otherwise;
  b.bytes(in.text().size());
  const integer base = p.whole(1, 10);
  if (base < 2 || base > 36) raise("int(): base must be from 2 to 36");
  if (const auto n = parse_whole(in.text(), static_cast<int>(base))) return value(*n);
  const auto d = parse_real(in.text());
  return d ? truncated(*d, otherwise) : otherwise;
}

value f_float(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("float", a, {"default"});
  must_be_defined(in);
  value otherwise = p.has(0) ? p.at(0) : value(0.0);
  if (in.is_number()) return value(in.real());
  if (!in.is_string()) return otherwise;
  b.bytes(in.text().size());
  const auto d = parse_real(in.text());
  return d ? value(*d) : otherwise;
}

value f_format(budget& b, const value& in, const call_arguments& a) {
  if (!a.positional.empty() && !a.named.empty())
    raise("can't handle positional and keyword arguments at the same time");
  return make_string(b, format_percent(b, to_text(b, in), a));
}

value f_indent(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("indent", a, {"width", "first", "blank"});
  std::string pad;
  if (p.has(0) && p.at(0).is_string()) {
    pad = p.at(0).text();
  } else {
    const integer width = p.whole(0, 4);
    if (width > 10'000) raise("indent(): width is too large");
    pad.assign(width > 0 ? static_cast<std::size_t>(width) : 0, ' ');
  }
  const bool blank = p.flag(2, false);
  std::string out = p.flag(1, false) ? pad : std::string();
  bool first = true;
  for (const auto& line : split_at(to_text(b, in), '\n')) {
    if (!first) out += '\n';
    if (!first && (blank || !line.empty())) out += pad;
    first = false;
    out += line;
    b.fits(out.size());
  }
  return make_string(b, std::move(out));
}

value f_length(budget& b, const value& in, const call_arguments& a) {
  take_none("length", a);
  return value(length(b, in));
}

value f_lower(budget& b, const value& in, const call_arguments& a) {
  take_none("lower", a);
  return make_string(b, utf8::to_lower(to_text(b, in)));
}

value f_replace(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("replace", a, {"old", "new", "count"});
  const bool counted = p.has(2) && !p.at(2).is_none();
  return make_string(
      b, replace(b, to_text(b, in), to_text(b, p.at(0)), to_text(b, p.at(1)), counted ? p.whole(2, -1) : -1));
}

value f_round(budget&, const value& in, const call_arguments& a) {
  const bound_arguments p("round", a, {"precision", "method"});
  must_be_defined(in);
  if (!in.is_number()) raise("type {} doesn't define __round__ method", type_name(in));
  const std::string method = p.text(1, "common");
  if (method != "common" && method != "ceil" && method != "floor") {
    raise("method must be common, ceil or floor");
  }
  const int precision = static_cast<int>(std::clamp<integer>(p.whole(0, 0), -30, 30));
  const double scale = std::pow(10.0, precision);
  if (method != "common") {
    const double scaled = in.real() * scale;
    return value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
  }
  if (in.is_integral() && precision >= 0) return value(in.whole());
  if (precision < 0) {
    const double rounded = std::nearbyint(in.real() * scale) / scale;
    return in.is_integral() ? value(static_cast<integer>(rounded)) : value(rounded);
  }
  return value(std::strtod(fmt::format("{:.{}f}", in.real(), precision).c_str(), nullptr));
}

value f_same(budget& b, const value& in, const call_arguments& a) {
  take_none("safe", a);
  return make_string(b, to_text(b, in));
}

value f_string(budget& b, const value& in, const call_arguments& a) {
  take_none("string", a);
  return make_string(b, to_text(b, in));
}

value f_title(budget& b, const value& in, const call_arguments& a) {
  take_none("title", a);
  const std::string text = to_text(b, in);
  std::string out;
  bool word_begins = true;
  for (std::string_view rest = text; !rest.empty();) {
    const auto c = utf8::read_valid(rest);
    const bool separator =
        utf8::is_python_space(c.value) || std::string_view("-({[<").find(rest[0]) != std::string::npos;
    if (separator) {
      out.append(rest.substr(0, c.bytes));
    } else {
      word_begins ? utf8::append_upper(out, c.value) : utf8::append_lower(out, c.value);
    }
    word_begins = separator;
    rest.remove_prefix(c.bytes);
  }
  return make_string(b, std::move(out));
}

value f_tojson(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("tojson", a, {"ensure_ascii", "indent", "separators", "sort_keys"});
  json_style style;
  style.ensure_ascii = p.flag(0, false);
  style.sort_keys = p.flag(3, false);
  if (p.has(1) && !p.at(1).is_none()) {
    style.indented = true;
    style.item_separator.assign(1, ',');
    const integer width = p.at(1).is_string() ? 0 : p.whole(1, 0);
    if (width > 1000) raise("tojson(): indent is too large");
    style.indent = p.at(1).is_string()
                       ? p.at(1).text()
                       : std::string(static_cast<std::size_t>(std::max<integer>(width, 0)), ' ');
  }
  if (p.has(2) && !p.at(2).is_none()) {
    const list_ptr both = iterate(b, p.at(2));
    if (both->items.size() != 2) raise("tojson(): separators must be two strings");
    style.item_separator = to_text(b, both->items[0]);
    style.key_separator = to_text(b, both->items[1]);
  }
  return make_string(b, to_json(b, in, style));
}

value f_trim(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("trim", a, {"chars"});
  std::optional<std::string> letters;
  if (p.has(0) && !p.at(0).is_none()) letters = p.text(0, "");
  return make_string(b, strip(to_text(b, in), letters, true, true));
}

value f_upper(budget& b, const value& in, const call_arguments& a) {
  take_none("upper", a);
  return make_string(b, utf8::to_upper(to_text(b, in)));
}

value f_wordcount(budget& b, const value& in, const call_arguments& a) {
  take_none("wordcount", a);
  const std::string text = to_text(b, in);
  std::size_t words = 0;
  bool inside = false;
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(utf8::read_valid(rest).bytes)) {
    const char32_t c = utf8::read_valid(rest).value;
    const bool letter = utf8::is_alphabetic(c) || utf8::is_numeric(c) || c == '_';
    words += letter && !inside;
    inside = letter;
  }
  return value(words);
}

constexpr named_filter table[] = {{"abs", &f_abs},         {"capitalize", &f_capitalize},
                                  {"count", &f_length},    {"d", &f_default},
                                  {"default", &f_default}, {"e", &f_escape},
                                  {"escape", &f_escape},   {"float", &f_float},
                                  {"format", &f_format},   {"indent", &f_indent},
                                  {"int", &f_int},         {"length", &f_length},
                                  {"lower", &f_lower},     {"replace", &f_replace},
                                  {"round", &f_round},     {"safe", &f_same},
                                  {"string", &f_string},   {"title", &f_title},
                                  {"tojson", &f_tojson},   {"trim", &f_trim},
                                  {"upper", &f_upper},     {"wordcount", &f_wordcount}};

}  // namespace

std::span<const named_filter> scalar_filters() {
  return table;
}

}  // namespace troupe::text::jinja
