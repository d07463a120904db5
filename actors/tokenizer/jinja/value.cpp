#include "actors/tokenizer/jinja/value.hpp"

#include <algorithm>

#include "actors/tokenizer/utf8.hpp"

namespace troupe::text::jinja {
namespace json = boost::json;
namespace {

std::size_t depth_of(const value& v) {
  if (v.is_list()) return v.list().depth;
  if (v.is_dict()) return v.dict().depth;
  return 0;
}

void check_depth(budget& b, std::size_t depth) {
  if (depth > b.depth_limit()) raise("a list or dict is nested more than {} levels deep", b.depth_limit());
}

// What comes from outside may be no UTF-8; everything in here relies on it.
value from_json_string(budget& b, std::string_view s) {
  return make_string(b, utf8::is_valid(s) ? std::string(s) : utf8::sanitize(s));
}

value from_json_object(budget& b, const json::object& o) {
  dict_object d;
  d.entries.reserve(o.size());
  for (const auto& [key, item] : o) d.set(from_json_string(b, key), from_json(b, item));
  return make_dict(b, std::move(d));
}

}  // namespace

value value::missing(std::string why) {
  value v;
  v.data_ = undefined_type{std::make_shared<const std::string>(std::move(why))};
  return v;
}

void must_be_defined(const value& v) {
  if (!v.is_undefined()) return;
  const auto& why = v.as<undefined_type>().why;
  throw failure{why ? *why : "an undefined value is used"};
}

const value* dict_object::find(std::string_view key) const {
  const auto found = strings.find(key);
  return found == strings.end() ? nullptr : &entries[found->second].second;
}

const value* dict_object::find(const value& key) const {
  if (key.is_string()) return find(key.text());
  for (const auto& [k, v] : entries) {
    if (k.is_number() && key.is_number() ? k.real() == key.real() : k.is_none() && key.is_none()) return &v;
  }
  return nullptr;
}

void dict_object::set(value key, value v) {
  depth = std::max(depth, depth_of(v) + 1);
  if (const value* present = find(key)) {
    const auto same = [&](const auto& entry) { return &entry.second == present; };
    std::find_if(entries.begin(), entries.end(), same)->second = std::move(v);
    return;
  }
  if (key.is_string()) strings.emplace(key.text(), entries.size());
  entries.emplace_back(std::move(key), std::move(v));
}

const value* namespace_object::find(std::string_view name) const {
  for (const auto& [key, v] : attributes) {
    if (key == name) return &v;
  }
  return nullptr;
}

void namespace_object::set(std::string_view name, value v) {
  for (auto& [key, old] : attributes) {
    if (key == name) {
      old = std::move(v);
      return;
    }
  }
  attributes.emplace_back(std::string(name), std::move(v));
}

value make_list(budget& b, std::vector<value> items, list_kind kind) {
  b.step(items.size());
  auto made = std::make_shared<list_object>();
  for (const auto& item : items) made->depth = std::max(made->depth, depth_of(item) + 1);
  check_depth(b, made->depth);
  made->items = std::move(items);
  made->kind = kind;
  return value(list_ptr(std::move(made)));
}

value make_dict(budget& b, dict_object d) {
  b.step(d.entries.size());
  check_depth(b, d.depth);
  return value(dict_ptr(std::make_shared<const dict_object>(std::move(d))));
}

value make_string(budget& b, std::string s) {
  b.make_bytes(s.size());
  return value(std::move(s));
}

value from_json(budget& b, const json::value& v) {
  const budget::level nested(b);
  switch (v.kind()) {
    case json::kind::null:
      return value(none_type{});
    case json::kind::bool_:
      return value(v.get_bool());
    case json::kind::int64:
      return value(static_cast<integer>(v.get_int64()));
    case json::kind::uint64:
      return value(static_cast<integer>(v.get_uint64()));
    case json::kind::double_:
      return value(v.get_double());
    case json::kind::string:
      return from_json_string(b, v.get_string());
    case json::kind::object:
      return from_json_object(b, v.get_object());
    case json::kind::array:
      break;
  }
  std::vector<value> items;
  items.reserve(v.get_array().size());
  for (const auto& item : v.get_array()) items.push_back(from_json(b, item));
  return make_list(b, std::move(items));
}

std::string_view type_name(const value& v) {
  if (v.is_undefined()) return "Undefined";
  if (v.is_none()) return "NoneType";
  if (v.is<bool>()) return "bool";
  if (v.is<integer>()) return "int";
  if (v.is<double>()) return "float";
  if (v.is_string()) return "str";
  if (v.is_dict()) return "dict";
  if (v.is<namespace_object*>()) return "Namespace";
  if (v.is<loop_ptr>()) return "LoopContext";
  if (v.is<callable_ptr>()) return v.as<callable_ptr>()->closure != nullptr ? "Macro" : "function";
  switch (v.list().kind) {
    case list_kind::list:
      return "list";
    case list_kind::tuple:
      return "tuple";
    case list_kind::generator:
      return "generator";
    case list_kind::dict_keys:
      return "dict_keys";
    case list_kind::dict_values:
      return "dict_values";
    case list_kind::dict_items:
      return "dict_items";
    case list_kind::range:
      return "range";
  }
  return "object";
}

bool truth(const value& v) {
  if (v.is_undefined() || v.is_none()) return false;
  if (v.is_integral()) return v.whole() != 0;
  if (v.is<double>()) return v.as<double>() != 0;
  if (v.is_string()) return !v.text().empty();
  if (v.is_dict()) return !v.dict().entries.empty();
  if (v.is_list()) return v.list().kind == list_kind::generator || !v.list().items.empty();
  return true;
}

}  // namespace troupe::text::jinja
