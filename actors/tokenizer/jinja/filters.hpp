// Filters (x | name), tests (x is name) and methods (x.name()). What is not in their tables does not exist.
#pragma once

#include <string>
#include <string_view>

#include "actors/tokenizer/jinja/arguments.hpp"

namespace troupe::text::jinja {

bool is_known_filter(std::string_view name);
bool is_known_test(std::string_view name);
std::string unknown_filter(std::string_view name);  // a message that lists the known ones
std::string unknown_test(std::string_view name);

// Throw failure.
value apply_filter(budget& b, std::string_view name, const value& input, const call_arguments& arguments);
bool apply_test(budget& b, std::string_view name, const value& input, const call_arguments& arguments);

// Methods of strings, lists, dicts and `loop`.
bool has_method(const value& object, std::string_view name);
value call_method(budget& b, const value& object, std::string_view name, const call_arguments& arguments);

// The functions range, dict and raise_exception, strftime_now. (namespace makes an object that the interpreter owns.)
value call_function(budget& b, std::string_view name, const call_arguments& arguments);

// dict.items(): a list of pairs.
value dict_items(budget& b, const value& dict, list_kind kind);

// a.b as templates write it: attributes of loop and namespace, methods, then keys.
value attribute(budget& b, const value& object, std::string_view name);

}  // namespace troupe::text::jinja
