// How filters are registered: each family has a table.
#pragma once

#include <span>

#include "actors/tokenizer/jinja/filters.hpp"

namespace troupe::text::jinja {

using filter_function = value (*)(budget&, const value& input, const call_arguments&);

struct named_filter {
  std::string_view name;
  filter_function function;
};

std::span<const named_filter> scalar_filters();    // filters_scalar.cpp
std::span<const named_filter> sequence_filters();  // filters_sequence.cpp

}  // namespace troupe::text::jinja
