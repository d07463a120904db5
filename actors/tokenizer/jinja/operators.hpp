// Python's operators on template values. Errors are thrown as `failure`, in Python's words.
#pragma once

#include "actors/tokenizer/jinja/value.hpp"

namespace troupe::text::jinja {

enum class binary_op { add, subtract, multiply, divide, floor_divide, modulo, power };
enum class compare_op { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };

value binary(budget& b, binary_op op, const value& left, const value& right);
value negative(const value& v);
value positive(const value& v);

bool compare(budget& b, compare_op op, const value& left, const value& right);
bool equals(budget& b, const value& left, const value& right);
bool less(budget& b, const value& left, const value& right);
bool contains(budget& b, const value& container, const value& item);

// len(v)
std::size_t length(budget& b, const value& v);
// What a for loop walks over: items of lists, keys of dicts, letters of strings.
list_ptr iterate(budget& b, const value& v);

// v[index]; undefined where Jinja says so.
value subscript(budget& b, const value& v, const value& index);
// v[start:stop:step]; undefined values stand for omitted ones.
value slice(budget& b, const value& v, const value& start, const value& stop, const value& step);

}  // namespace troupe::text::jinja
