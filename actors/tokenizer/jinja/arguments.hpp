// Arguments of calls, filters and tests, and how functions look at them.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "actors/tokenizer/jinja/value.hpp"

namespace troupe::text::jinja {

struct call_arguments {
  std::vector<value> positional;
  std::vector<std::pair<std::string, value>> named;
};

// Arguments in the order of a function's parameters. Throws failure for unknown, repeated or too many arguments.
class bound_arguments {
 public:
  bound_arguments(std::string_view function, const call_arguments& given,
                  std::initializer_list<std::string_view> parameters);

  bool has(std::size_t i) const { return values_[i] != nullptr; }
  const value& at(std::size_t i) const;  // throws failure if it was not given

  // With Python's complaint if the type is another.
  integer whole(std::size_t i, integer otherwise) const;
  bool flag(std::size_t i, bool otherwise) const;  // truth of any value
  std::string text(std::size_t i, std::string_view otherwise) const;

 private:
  std::string_view function_;
  std::vector<std::string_view> parameters_;
  std::vector<const value*> values_;
};

// For a function without parameters.
inline void take_none(std::string_view function, const call_arguments& given) {
  const bound_arguments none(function, given, {});
}

}  // namespace troupe::text::jinja
