#include "actors/tokenizer/jinja/filters.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "actors/tokenizer/jinja/filter_table.hpp"

namespace troupe::text::jinja {
namespace {

const named_filter* find_filter(std::string_view name) {
  for (const auto& table : {scalar_filters(), sequence_filters()}) {
    for (const auto& f : table) {
      if (f.name == name) return &f;
    }
  }
  return nullptr;
}

}  // namespace

bool is_known_filter(std::string_view name) {
  return find_filter(name) != nullptr;
}

std::string unknown_filter(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& table : {scalar_filters(), sequence_filters()}) {
    for (const auto& f : table) names.push_back(f.name);
  }
  std::sort(names.begin(), names.end());
  return fmt::format("no filter named '{}'; known are {}", name, fmt::join(names, ", "));
}

value apply_filter(budget& b, std::string_view name, const value& input, const call_arguments& arguments) {
  const budget::level nested(b);
  b.step();
  const named_filter* f = find_filter(name);
  if (f == nullptr) throw failure{unknown_filter(name)};
  return f->function(b, input, arguments);
}

}  // namespace troupe::text::jinja
