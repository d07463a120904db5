// The values of a running template: Python's, as far as chat templates meet them. All of them are immutable but
// namespaces, which the interpreter owns; so values never form reference cycles.
#pragma once

#include <boost/json/value.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "actors/tokenizer/jinja/budget.hpp"

namespace troupe::text::jinja {

__extension__ typedef __int128 integer;  // holds every JSON integer; arithmetic beyond it is an error

struct list_object;
struct dict_object;
struct namespace_object;
struct callable;
struct loop_object;

// Printed as nothing; most other uses are errors that say `why`.
struct undefined_type {
  std::shared_ptr<const std::string> why;
};
struct none_type {};

using string_ptr = std::shared_ptr<const std::string>;  // valid UTF-8
using list_ptr = std::shared_ptr<const list_object>;
using dict_ptr = std::shared_ptr<const dict_object>;
using callable_ptr = std::shared_ptr<const callable>;
using loop_ptr = std::shared_ptr<const loop_object>;

class value {
 public:
  using storage = std::variant<undefined_type, none_type, bool, integer, double, string_ptr, list_ptr,
                               dict_ptr, namespace_object*, callable_ptr, loop_ptr>;

  value() = default;  // undefined without a reason
  explicit value(none_type) : data_(none_type{}) {}
  explicit value(bool b) : data_(b) {}
  explicit value(integer i) : data_(i) {}
  explicit value(std::size_t n) : data_(static_cast<integer>(n)) {}
  explicit value(double d) : data_(d) {}
  explicit value(std::string s) : data_(std::make_shared<const std::string>(std::move(s))) {}
  explicit value(std::string_view s) : value(std::string(s)) {}
  explicit value(const char*) = delete;
  explicit value(string_ptr s) : data_(std::move(s)) {}
  explicit value(list_ptr l) : data_(std::move(l)) {}
  explicit value(dict_ptr d) : data_(std::move(d)) {}
  explicit value(namespace_object* n) : data_(n) {}
  explicit value(callable_ptr c) : data_(std::move(c)) {}
  explicit value(loop_ptr l) : data_(std::move(l)) {}

  static value missing(std::string why);

  template <class T>
  bool is() const {
    return std::holds_alternative<T>(data_);
  }
  template <class T>
  const T& as() const {
    return std::get<T>(data_);
  }

  bool is_undefined() const { return is<undefined_type>(); }
  bool is_none() const { return is<none_type>(); }
  bool is_string() const { return is<string_ptr>(); }
  bool is_list() const { return is<list_ptr>(); }
  bool is_dict() const { return is<dict_ptr>(); }
  bool is_integral() const { return is<integer>() || is<bool>(); }  // a bool is an int, as in Python
  bool is_number() const { return is_integral() || is<double>(); }

  const std::string& text() const { return *as<string_ptr>(); }
  const list_object& list() const { return *as<list_ptr>(); }
  const dict_object& dict() const { return *as<dict_ptr>(); }
  integer whole() const { return is<bool>() ? static_cast<integer>(as<bool>()) : as<integer>(); }
  double real() const { return is<double>() ? as<double>() : static_cast<double>(whole()); }

 private:
  storage data_;
};

// Python's several kinds of sequences that are not strings.
enum class list_kind { list, tuple, generator, dict_keys, dict_values, dict_items, range };

struct list_object {
  std::vector<value> items;
  list_kind kind = list_kind::list;
  std::size_t depth = 1;  // of nested lists and dicts, itself included
  std::string written;    // repr() of a range
  bool is_group = false;  // of groupby: a tuple whose items have names, grouper and list
};

// Keeps the order of insertion.
struct dict_object {
  std::vector<std::pair<value, value>> entries;
  boost::unordered_flat_map<std::string_view, std::size_t> strings;  // index of string keys
  std::size_t depth = 1;

  const value* find(std::string_view key) const;
  const value* find(const value& key) const;
  void set(value key, value v);  // only while it is built
};

struct namespace_object {
  std::vector<std::pair<std::string, value>> attributes;
  const value* find(std::string_view name) const;
  void set(std::string_view name, value v);
};

// `loop` in a for block.
struct loop_object {
  list_ptr items;
  std::size_t index0 = 0;
  // What loop.changed() was told last; one for all rounds. Emptied when the loop ends: values in it may lead back here.
  struct memory {
    bool running = true;
    bool told = false;
    std::vector<value> last;
  };
  std::shared_ptr<memory> changes;
};

// A macro, a function, or a method bound to its object.
struct callable {
  std::string name;
  const void* closure = nullptr;  // of a macro: the interpreter's
  value receiver;                 // of a method
  bool is_method = false;
};

// Containers are made here, so that their size is paid for and their nesting stays bounded.
value make_list(budget& b, std::vector<value> items, list_kind kind = list_kind::list);
value make_dict(budget& b, dict_object d);
value make_string(budget& b, std::string s);

value from_json(budget& b, const boost::json::value& v);

// "str", "int", "NoneType", ...
std::string_view type_name(const value& v);

bool truth(const value& v);
std::string to_text(budget& b, const value& v);  // str(v)
std::string repr(budget& b, const value& v);     // repr(v)
std::string number_text(double d);

struct json_style {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool indented = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string to_json(budget& b, const value& v, const json_style& style);  // json.dumps(v)

// Throws with the reason if `v` is undefined.
void must_be_defined(const value& v);

}  // namespace troupe::text::jinja
