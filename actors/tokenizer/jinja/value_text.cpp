// str(), repr() and json.dumps() of values.
#include <algorithm>
#include <cmath>
#include <optional>

#include "actors/tokenizer/jinja/value.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text::jinja {
namespace {

// Python escapes what cannot be seen.
bool is_printable(char32_t c) {
  if (c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD) return false;
  if (c != ' ' && utf8::is_whitespace(c)) return false;
  return utf8::is_printable(c);
}

std::string quoted(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  while (!text.empty()) {
    const auto c = utf8::read_valid(text);
    const std::string_view letter = text.substr(0, c.bytes);
    text.remove_prefix(c.bytes);
    if (c.value == static_cast<unsigned char>(quote) || c.value == '\\') {
      out.append("\\").append(letter);
    } else if (c.value == '\n') {
      out.append("\\n");
    } else if (c.value == '\r') {
      out.append("\\r");
    } else if (c.value == '\t') {
      out.append("\\t");
    } else if (is_printable(c.value)) {
      out.append(letter);
    } else {
      const auto code = static_cast<std::uint32_t>(c.value);
      out += code < 0x100     ? fmt::format("\\x{:02x}", code)
             : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                              : fmt::format("\\U{:08x}", code);
    }
  }
  return out + quote;
}

std::string list_repr(budget& b, const list_object& l) {
  if (l.kind == list_kind::generator) return "<generator object>";
  if (l.kind == list_kind::range) return l.written;
  std::string out;
  for (const auto& item : l.items) {
    if (!out.empty()) out += ", ";
    out += repr(b, item);
    b.fits(out.size());
  }
  if (l.kind == list_kind::tuple) return l.items.size() == 1 ? "(" + out + ",)" : "(" + out + ")";
  out = "[" + out + "]";
  return l.kind == list_kind::list ? out
                                   : fmt::format("{}({})", type_name(value(list_ptr(&l, [](auto*) {}))), out);
}

std::string dict_repr(budget& b, const dict_object& d) {
  std::string out = "{";
  for (const auto& [key, item] : d.entries) {
    if (out.size() > 1) out += ", ";
    out += repr(b, key) + ": " + repr(b, item);
    b.fits(out.size());
  }
  return out + "}";
}

std::string json_string(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  const auto escape = [&](std::uint32_t unit) { out += fmt::format("\\u{:04x}", unit); };
  while (!text.empty()) {
    const auto c = utf8::read_valid(text);
    const auto code = static_cast<std::uint32_t>(c.value);
    switch (code) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (code >= 0x10000 && ensure_ascii) {
          escape(0xD800 + ((code - 0x10000) >> 10));
          escape(0xDC00 + ((code - 0x10000) & 0x3FF));
        } else if (code < 0x20 || (ensure_ascii && code > 0x7E)) {
          escape(code);
        } else {
          out.append(text.substr(0, c.bytes));
        }
    }
    text.remove_prefix(c.bytes);
  }
  return out + "\"";
}

class json_writer {
 public:
  json_writer(budget& b, const json_style& style) : budget_(b), style_(style) {}

  std::string take() { return std::move(out_); }

  void write(const value& v) {
    budget_.step();
    const budget::level nested(budget_);
    if (v.is_string()) {
      put(json_string(v.text(), style_.ensure_ascii));
    } else if (v.is_list() && (v.list().kind == list_kind::list || v.list().kind == list_kind::tuple)) {
      write_list(v.list().items);
    } else if (v.is_dict()) {
      write_dict(v.dict());
    } else {
      put(scalar(v));
    }
  }

 private:
  void put(std::string_view text) {
    budget_.bytes(text.size());
    out_.append(text);
    budget_.fits(out_.size());
  }

  std::string scalar(const value& v) const {
    if (v.is_none()) return "null";
    if (v.is<bool>()) return v.as<bool>() ? "true" : "false";
    if (v.is<integer>()) return fmt::format("{}", v.as<integer>());
    if (!v.is<double>()) raise("Object of type {} is not JSON serializable", type_name(v));
    const double d = v.as<double>();
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d > 0 ? "Infinity" : "-Infinity";
    return number_text(d);
  }

  void new_line() {
    if (!style_.indented) return;
    put("\n");
    for (std::size_t i = 0; i < level_; ++i) put(style_.indent);
  }

  template <class Items, class Write>
  void write_all(char open, char close, const Items& items, Write write_one) {
    put(std::string_view(&open, 1));
    ++level_;
    bool first = true;
    for (const auto& item : items) {
      if (!first) put(style_.item_separator);
      first = false;
      new_line();
      write_one(item);
    }
    --level_;
    if (!first) new_line();
    put(std::string_view(&close, 1));
  }

  void write_list(const std::vector<value>& items) {
    write_all('[', ']', items, [&](const value& v) { write(v); });
  }

  void write_dict(const dict_object& d) {
    std::vector<std::pair<std::string, const value*>> entries;
    for (const auto& [key, item] : d.entries)
      entries.emplace_back(key.is_string() ? key.text() : scalar(key), &item);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    write_all('{', '}', entries, [&](const auto& entry) {
      put(json_string(entry.first, style_.ensure_ascii));
      put(style_.key_separator);
      write(*entry.second);
    });
  }

  budget& budget_;
  const json_style& style_;
  std::size_t level_ = 0;
  std::string out_;
};

}  // namespace

std::string number_text(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", d);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string repr(budget& b, const value& v) {
  b.step();
  const budget::level nested(b);
  if (v.is_undefined()) return "Undefined";
  if (v.is_string()) {
    b.make_bytes(v.text().size());
    return quoted(v.text());
  }
  if (v.is_list()) return list_repr(b, v.list());
  if (v.is_dict()) return dict_repr(b, v.dict());
  return to_text(b, v);
}

std::string to_text(budget& b, const value& v) {
  if (v.is_undefined()) return {};
  if (v.is_none()) return "None";
  if (v.is<bool>()) return v.as<bool>() ? "True" : "False";
  if (v.is<integer>()) return fmt::format("{}", v.as<integer>());
  if (v.is<double>()) return number_text(v.as<double>());
  if (v.is_string()) {
    b.bytes(v.text().size());
    return v.text();
  }
  if (v.is<namespace_object*>()) return "<Namespace>";
  if (v.is<loop_ptr>()) {
    return fmt::format("<LoopContext {}/{}>", v.as<loop_ptr>()->index0 + 1,
                       v.as<loop_ptr>()->items->items.size());
  }
  if (v.is<callable_ptr>()) return fmt::format("<{} {}>", type_name(v), v.as<callable_ptr>()->name);
  return repr(b, v);
}

std::string to_json(budget& b, const value& v, const json_style& style) {
  json_writer writer(b, style);
  writer.write(v);
  return writer.take();
}

}  // namespace troupe::text::jinja
