// x.name(): what strings, lists, dicts and `loop` can do. Nothing that would change them.
#include <algorithm>
#include <optional>

#include "actors/tokenizer/jinja/filters.hpp"
#include "actors/tokenizer/jinja/formatting.hpp"
#include "actors/tokenizer/jinja/operators.hpp"
#include "actors/tokenizer/jinja/strings.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text::jinja {
namespace {

using method = value (*)(budget&, const value& self, const call_arguments&);

struct named_method {
  std::string_view name;
  method function;
};

std::optional<std::string> letters(const bound_arguments& p, std::size_t i) {
  if (!p.has(i) || p.at(i).is_none()) return std::nullopt;
  return p.text(i, "");
}

template <bool Left, bool Right>
value stripped(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p("strip", a, {"chars"});
  return make_string(b, strip(self.text(), letters(p, 0), Left, Right));
}

value texts(budget& b, std::vector<std::string> parts) {
  std::vector<value> items;
  items.reserve(parts.size());
  for (auto& part : parts) items.push_back(make_string(b, std::move(part)));
  return make_list(b, std::move(items));
}

template <bool FromRight>
value splitted(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p("split", a, {"sep", "maxsplit"});
  const auto separator = letters(p, 0);
  if (separator && separator->empty()) raise("empty separator");
  const integer limit = p.whole(1, -1);
  return texts(
      b, FromRight ? split_from_right(self.text(), separator, limit) : split(self.text(), separator, limit));
}

// "ab".startswith("a"), "ab".startswith(("a", "b"))
template <bool AtEnd>
value affixed(budget&, const value& self, const call_arguments& a) {
  const char* name = AtEnd ? "endswith" : "startswith";
  const bound_arguments p(name, a, {"prefix"});
  const auto fits = [&](const value& v) {
    must_be_defined(v);
    if (!v.is_string()) raise("{} first arg must be str or a tuple of str, not {}", name, type_name(v));
    return AtEnd ? self.text().ends_with(v.text()) : self.text().starts_with(v.text());
  };
  if (!p.at(0).is_list() || p.at(0).list().kind != list_kind::tuple) return value(fits(p.at(0)));
  const auto& all = p.at(0).list().items;
  return value(std::any_of(all.begin(), all.end(), fits));
}

// Index in code points, or -1.
integer find_text(budget& b, const value& self, const call_arguments& a, bool last) {
  const bound_arguments p(last ? "rfind" : "find", a, {"sub", "start", "end"});
  p.text(0, "");
  const std::string& whole = self.text();
  const value part = slice(b, self, p.has(1) ? p.at(1) : value(), p.has(2) ? p.at(2) : value(), value());
  const std::string wanted = p.at(0).text();
  const auto at = last ? part.text().rfind(wanted) : part.text().find(wanted);
  if (at == std::string::npos) return -1;
  const integer size = static_cast<integer>(utf8::length(whole));
  integer start = p.has(1) && p.at(1).is_integral() ? p.at(1).whole() : 0;
  if (start < 0) start = std::max<integer>(0, start + size);
  if (start > size) return -1;
  return start + static_cast<integer>(utf8::length(std::string_view(part.text()).substr(0, at)));
}

template <bool Last>
value found(budget& b, const value& self, const call_arguments& a) {
  return value(find_text(b, self, a, Last));
}

value index_of(budget& b, const value& self, const call_arguments& a) {
  const integer at = find_text(b, self, a, false);
  if (at < 0) raise("substring not found");
  return value(at);
}

template <bool (*Fits)(char32_t)>
value every(budget&, const value& self, const call_arguments& a) {
  take_none("str method", a);
  std::string_view rest = self.text();
  if (rest.empty()) return value(false);
  for (; !rest.empty(); rest.remove_prefix(utf8::read_valid(rest).bytes)) {
    if (!Fits(utf8::read_valid(rest).value)) return value(false);
  }
  return value(true);
}

bool is_alnum(char32_t c) {
  return utf8::is_alphabetic(c) || utf8::is_numeric(c);
}

template <std::string (*Map)(std::string_view)>
value mapped(budget& b, const value& self, const call_arguments& a) {
  take_none("str method", a);
  return make_string(b, Map(self.text()));
}

value replaced(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p("replace", a, {"old", "new", "count"});
  p.at(0);
  p.at(1);
  return make_string(b, replace(b, self.text(), p.text(0, ""), p.text(1, ""), p.whole(2, -1)));
}

value joined(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p("join", a, {"iterable"});
  std::string out;
  const list_ptr all = iterate(b, p.at(0));
  for (std::size_t i = 0; i < all->items.size(); ++i) {
    const value& item = all->items[i];
    if (!item.is_string()) raise("sequence item {}: expected str instance, {} found", i, type_name(item));
    if (i > 0) out += self.text();
    out += item.text();
    b.fits(out.size());
  }
  return make_string(b, std::move(out));
}

value counted(budget&, const value& self, const call_arguments& a) {
  const bound_arguments p("count", a, {"sub"});
  p.at(0);
  const std::string wanted = p.text(0, "");
  if (wanted.empty()) return value(utf8::length(self.text()) + 1);
  std::size_t n = 0;
  for (auto at = self.text().find(wanted); at != std::string::npos;
       at = self.text().find(wanted, at + wanted.size())) {
    ++n;
  }
  return value(n);
}

value lines(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p("splitlines", a, {"keepends"});
  return texts(b, split_lines(self.text(), p.flag(0, false)));
}

template <bool AtEnd>
value without_affix(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p(AtEnd ? "removesuffix" : "removeprefix", a, {"affix"});
  p.at(0);
  std::string_view text = self.text();
  const std::string affix = p.text(0, "");
  if (AtEnd && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!AtEnd && text.starts_with(affix)) text.remove_prefix(affix.size());
  return make_string(b, std::string(text));
}

template <bool FromRight>
value partition(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p("partition", a, {"sep"});
  p.at(0);
  const std::string& text = self.text();
  const std::string separator = p.text(0, "");
  if (separator.empty()) raise("empty separator");
  const auto at = FromRight ? text.rfind(separator) : text.find(separator);
  std::vector<std::string> parts;
  if (at != std::string::npos) {
    parts = {text.substr(0, at), separator, text.substr(at + separator.size())};
  } else {
    parts = FromRight ? std::vector<std::string>{"", "", text} : std::vector<std::string>{text, "", ""};
  }
  return make_list(b, texts(b, std::move(parts)).list().items, list_kind::tuple);
}

value zero_filled(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p("zfill", a, {"width"});
  p.at(0);
  const integer missing = p.whole(0, 0) - static_cast<integer>(utf8::length(self.text()));
  if (missing <= 0) return self;
  if (missing > 10'000) raise("zfill(): width is too large");
  const bool sign = self.text().starts_with('-') || self.text().starts_with('+');
  std::string text = self.text();
  text.insert(sign ? 1 : 0, static_cast<std::size_t>(missing), '0');
  return make_string(b, std::move(text));
}

value braces_filled(budget& b, const value& self, const call_arguments& a) {
  return make_string(b, format_braces(b, self.text(), a));
}

constexpr named_method string_methods[] = {{"capitalize", &mapped<&capitalize>},
                                           {"casefold", &mapped<&utf8::to_lower>},
                                           {"count", &counted},
                                           {"endswith", &affixed<true>},
                                           {"find", &found<false>},
                                           {"format", &braces_filled},
                                           {"index", &index_of},
                                           {"isalnum", &every<&is_alnum>},
                                           {"isalpha", &every<&utf8::is_alphabetic>},
                                           {"isdecimal", &every<&utf8::is_numeric>},
                                           {"isdigit", &every<&utf8::is_numeric>},
                                           {"isnumeric", &every<&utf8::is_numeric>},
                                           {"isspace", &every<&utf8::is_python_space>},
                                           {"join", &joined},
                                           {"lower", &mapped<&utf8::to_lower>},
                                           {"lstrip", &stripped<true, false>},
                                           {"partition", &partition<false>},
                                           {"removeprefix", &without_affix<false>},
                                           {"removesuffix", &without_affix<true>},
                                           {"replace", &replaced},
                                           {"rfind", &found<true>},
                                           {"rpartition", &partition<true>},
                                           {"rsplit", &splitted<true>},
                                           {"rstrip", &stripped<false, true>},
                                           {"split", &splitted<false>},
                                           {"splitlines", &lines},
                                           {"startswith", &affixed<false>},
                                           {"strip", &stripped<true, true>},
                                           {"title", &mapped<&title>},
                                           {"upper", &mapped<&utf8::to_upper>},
                                           {"zfill", &zero_filled}};

value list_index(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p("index", a, {"value"});
  const auto& items = self.list().items;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (equals(b, items[i], p.at(0))) return value(i);
  }
  raise("{} is not in list", repr(b, p.at(0)));
}

value list_count(budget& b, const value& self, const call_arguments& a) {
  const bound_arguments p("count", a, {"value"});
  std::size_t n = 0;
  for (const auto& item : self.list().items) n += equals(b, item, p.at(0));
  return value(n);
}

value itself(budget&, const value& self, const call_arguments& a) {
  take_none("copy", a);
  return self;
}

constexpr named_method list_methods[] = {{"copy", &itself}, {"count", &list_count}, {"index", &list_index}};

value dict_get(budget&, const value& self, const call_arguments& a) {
  const bound_arguments p("get", a, {"key", "default"});
  if (const value* v = self.dict().find(p.at(0))) return *v;
  return p.has(1) ? p.at(1) : value(none_type{});
}

value dict_keys(budget& b, const value& self, const call_arguments& a) {
  take_none("keys", a);
  std::vector<value> keys;
  for (const auto& entry : self.dict().entries) keys.push_back(entry.first);
  return make_list(b, std::move(keys), list_kind::dict_keys);
}

value dict_values(budget& b, const value& self, const call_arguments& a) {
  take_none("values", a);
  std::vector<value> values;
  for (const auto& entry : self.dict().entries) values.push_back(entry.second);
  return make_list(b, std::move(values), list_kind::dict_values);
}

value dict_pairs(budget& b, const value& self, const call_arguments& a) {
  take_none("items", a);
  return dict_items(b, self, list_kind::dict_items);
}

constexpr named_method dict_methods[] = {{"copy", &itself},
                                         {"get", &dict_get},
                                         {"items", &dict_pairs},
                                         {"keys", &dict_keys},
                                         {"values", &dict_values}};

// What would change a value in place. Python's sandbox forbids these too.
constexpr std::string_view changing[] = {"append",  "clear",  "extend",     "insert", "pop",
                                         "popitem", "remove", "setdefault", "sort",   "update"};

value loop_cycle(budget&, const value& self, const call_arguments& a) {
  if (a.positional.empty()) raise("no items for cycling given");
  return a.positional[self.as<loop_ptr>()->index0 % a.positional.size()];
}

value loop_changed(budget& b, const value& self, const call_arguments& a) {
  auto& memory = *self.as<loop_ptr>()->changes;
  if (!memory.running) raise("loop.changed() is for the inside of its loop");
  const auto same = [&](const value& x, const value& y) { return equals(b, x, y); };
  if (memory.told &&
      std::equal(memory.last.begin(), memory.last.end(), a.positional.begin(), a.positional.end(), same))
    return value(false);
  memory.told = true;
  memory.last = a.positional;
  return value(true);
}

constexpr named_method loop_methods[] = {{"changed", &loop_changed}, {"cycle", &loop_cycle}};

template <std::size_t N>
method search(const named_method (&table)[N], std::string_view name) {
  const auto* found_at =
      std::find_if(std::begin(table), std::end(table), [&](const auto& m) { return m.name == name; });
  return found_at == std::end(table) ? nullptr : found_at->function;
}

method find_method(const value& v, std::string_view name) {
  if (v.is_string()) return search(string_methods, name);
  if (v.is_list() && (v.list().kind == list_kind::list || v.list().kind == list_kind::tuple)) {
    return search(list_methods, name);
  }
  if (v.is_dict()) return search(dict_methods, name);
  return v.is<loop_ptr>() ? search(loop_methods, name) : nullptr;
}

value loop_attribute(const loop_object& l, std::string_view name) {
  const std::size_t size = l.items->items.size();
  if (name == "index") return value(l.index0 + 1);
  if (name == "index0") return value(l.index0);
  if (name == "revindex") return value(size - l.index0);
  if (name == "revindex0") return value(size - l.index0 - 1);
  if (name == "first") return value(l.index0 == 0);
  if (name == "last") return value(l.index0 + 1 == size);
  if (name == "length") return value(size);
  if (name == "depth") return value(integer{1});  // counts recursive loops, of which there are none
  if (name == "depth0") return value(integer{0});
  if (name == "previtem") {
    return l.index0 > 0 ? l.items->items[l.index0 - 1] : value::missing("there is no previous item");
  }
  if (name == "nextitem") {
    return l.index0 + 1 < size ? l.items->items[l.index0 + 1] : value::missing("there is no next item");
  }
  return value::missing(fmt::format("'loop' has no attribute '{}'", name));
}

}  // namespace

bool has_method(const value& object, std::string_view name) {
  return find_method(object, name) != nullptr;
}

value call_method(budget& b, const value& object, std::string_view name, const call_arguments& arguments) {
  b.step();
  if (object.is_string()) b.bytes(object.text().size());
  return find_method(object, name)(b, object, arguments);
}

value dict_items(budget& b, const value& dict, list_kind kind) {
  std::vector<value> pairs;
  for (const auto& [key, item] : dict.dict().entries)
    pairs.push_back(make_list(b, {key, item}, list_kind::tuple));
  return make_list(b, std::move(pairs), kind);
}

value attribute(budget& b, const value& object, std::string_view name) {
  must_be_defined(object);
  b.step();
  if (has_method(object, name)) {
    callable c;
    c.name = name;
    c.receiver = object;
    c.is_method = true;
    return value(std::make_shared<const callable>(std::move(c)));
  }
  if (object.is_list() && object.list().is_group && (name == "grouper" || name == "list"))
    return object.list().items[name == "list" ? 1 : 0];
  if (object.is<loop_ptr>()) return loop_attribute(*object.as<loop_ptr>(), name);
  if (object.is<namespace_object*>()) {
    const value* found_at = object.as<namespace_object*>()->find(name);
    if (found_at != nullptr) return *found_at;
  }
  const bool changes = std::find(std::begin(changing), std::end(changing), name) != std::end(changing);
  if (changes && (object.is_dict() || object.is_list())) {
    return value::missing(
        fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(object)));
  }
  return subscript(b, object, value(name));
}

}  // namespace troupe::text::jinja
