#include "actors/tokenizer/jinja/formatting.hpp"

#include <algorithm>
#include <cmath>

#include "actors/tokenizer/jinja/filters.hpp"
#include "actors/tokenizer/jinja/operators.hpp"

namespace troupe::text::jinja {
namespace {

constexpr std::string_view digits = "0123456789";

// Bounds what a width or a precision may ask for.
void check_numbers(std::string_view spec) {
  for (std::size_t i = 0; i < spec.size(); ++i)
    if (i + 5 <= spec.size() && spec.substr(i, 5).find_first_not_of(digits) == std::string_view::npos)
      raise("the format '{}' asks for too many letters", spec);
}

// `spec` in the language of "{:...}", which fmt took over from Python.
std::string formatted(budget& b, const value& v, const std::string& spec) {
  check_numbers(spec);
  if (spec.empty()) return to_text(b, v);
  const char type = spec.back();
  const std::string pattern = "{:" + spec + "}";
  try {
    if (v.is_string()) {
      b.bytes(v.text().size());
      return fmt::format(fmt::runtime(pattern), v.text());
    }
    if (v.is<double>() || (v.is_number() && std::string_view("eEfFgG").find(type) != std::string_view::npos))
      return fmt::format(fmt::runtime(pattern), v.real());
    if (v.is_integral()) return fmt::format(fmt::runtime(pattern), v.whole());
  } catch (const fmt::format_error&) {
    raise("Invalid format specifier '{}' for object of type '{}'", spec, type_name(v));
  }
  raise("unsupported format string passed to {}.__format__", type_name(v));
}

// One %..., written anew as a spec: right-aligned unless told otherwise.
std::string formatted_percent(budget& b, const value& v, std::string_view flags, std::string_view size,
                              char type) {
  const auto has = [&](char c) { return flags.find(c) != std::string_view::npos; };
  const bool number = std::string_view("dixXoeEfFgG").find(type) != std::string_view::npos;
  if (number && !v.is_number()) raise("%{} format: a real number is required, not {}", type, type_name(v));
  std::string spec = has('-') ? "<" : has('0') && number ? "" : ">";
  if (number && (has('+') || has(' '))) spec += has('+') ? '+' : ' ';
  if (number && has('#')) spec += '#';
  if (number && has('0') && !has('-')) spec += '0';
  spec += size;
  if (type == 's' || type == 'r') return formatted(b, value(type == 's' ? to_text(b, v) : repr(b, v)), spec);
  if (type == 'd' || type == 'i') {
    if (v.is<double>() && !(std::fabs(v.real()) < 1e37)) raise("cannot convert {} to integer", v.real());
    return formatted(b, value(v.is<double>() ? static_cast<integer>(v.real()) : v.whole()), spec + 'd');
  }
  if (!number) raise("unsupported format character '{}'", type);
  if (std::string_view("xXo").find(type) != std::string_view::npos && !v.is_integral())
    raise("%{} format: an integer is required, not {}", type, type_name(v));
  return formatted(b, v, spec + type);
}

const value& named(const call_arguments& values, std::string_view name) {
  const auto found =
      std::ranges::find_if(values.named, [&](const auto& entry) { return entry.first == name; });
  if (found == values.named.end()) raise("'{}'", name);
  return found->second;
}

// "0.role[1]": an argument and what is taken from it.
value field(budget& b, std::string_view path, const call_arguments& values, std::size_t& next) {
  const auto end = std::min(path.find_first_of(".["), path.size());
  const std::string_view first = path.substr(0, end);
  value v;
  if (first.find_first_not_of(digits) != std::string_view::npos) {
    v = named(values, first);
  } else {
    if (first.size() > 4) raise("Replacement index {} out of range for positional args tuple", first);
    const std::size_t i = first.empty() ? next++ : std::stoul(std::string(first));
    if (i >= values.positional.size())
      raise("Replacement index {} out of range for positional args tuple", i);
    v = values.positional[i];
  }
  for (std::string_view rest = path.substr(end); !rest.empty();) {
    const bool item = rest[0] == '[';
    const auto stop = std::min(item ? rest.find(']') : rest.find_first_of(".[", 1), rest.size());
    const std::string_view name = rest.substr(1, stop - 1);
    const bool index =
        item && !name.empty() && name.size() < 5 && name.find_first_not_of(digits) == std::string_view::npos;
    v = !item ? attribute(b, v, name)
              : subscript(b, v,
                          index ? value(static_cast<integer>(std::stol(std::string(name)))) : value(name));
    rest.remove_prefix(std::min(stop + (item ? 1 : 0), rest.size()));
  }
  return v;
}

}  // namespace

std::string format_percent(budget& b, std::string_view pattern, const call_arguments& values) {
  std::string out;
  std::size_t next = 0;
  while (!pattern.empty()) {
    const auto at = pattern.find('%');
    out += pattern.substr(0, at);
    b.fits(out.size());
    if (at == std::string_view::npos) break;
    pattern.remove_prefix(at + 1);
    b.step();
    const value* v = nullptr;
    if (pattern.starts_with('(')) {
      const auto end = pattern.find(')');
      if (end == std::string_view::npos) raise("incomplete format key");
      v = &named(values, pattern.substr(1, end - 1));
      pattern.remove_prefix(end + 1);
    }
    const auto flags = pattern.substr(0, std::min(pattern.find_first_not_of("-+ #0"), pattern.size()));
    pattern.remove_prefix(flags.size());
    const auto size = pattern.substr(0, std::min(pattern.find_first_not_of("0123456789."), pattern.size()));
    pattern.remove_prefix(size.size());
    if (pattern.empty()) raise("incomplete format");
    const char type = pattern[0];
    pattern.remove_prefix(1);
    if (type == '%') {
      out += '%';
      continue;
    }
    if (v == nullptr && next >= values.positional.size()) raise("not enough arguments for format string");
    out += formatted_percent(b, v != nullptr ? *v : values.positional[next++], flags, size, type);
  }
  if (next < values.positional.size() && values.named.empty())
    raise("not all arguments converted during string formatting");
  return out;
}

std::string format_braces(budget& b, std::string_view pattern, const call_arguments& values) {
  std::string out;
  std::size_t next = 0;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    const bool twice = at + 1 < pattern.size() && pattern[at + 1] == c;
    if (c != '{' && c != '}') {
      out += c;
    } else if (twice) {
      out += pattern[at++];
    } else if (c == '}') {
      raise("Single '}}' encountered in format string");
    } else {
      b.step();
      const auto end = pattern.find_first_of("{}", at + 1);
      if (end == std::string_view::npos) raise("expected '}}' before end of string");
      if (pattern[end] == '{') raise("a format inside a format is not supported");
      const std::string_view inside = pattern.substr(at + 1, end - at - 1);
      const auto colon = std::min(inside.find(':'), inside.size());
      const auto bang = std::min(inside.substr(0, colon).find('!'), colon);
      value v = field(b, inside.substr(0, bang), values, next);
      if (bang < colon) v = value(inside.substr(bang, colon - bang) == "!r" ? repr(b, v) : to_text(b, v));
      out += formatted(b, v, std::string(inside.substr(std::min(colon + 1, inside.size()))));
      at = end;
    }
    b.fits(out.size());
  }
  b.bytes(out.size());
  return out;
}

}  // namespace troupe::text::jinja
