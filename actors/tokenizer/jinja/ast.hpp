// A parsed template. Immutable after parsing, so that any number of threads may render it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "actors/tokenizer/jinja/operators.hpp"
#include "actors/tokenizer/jinja/value.hpp"

namespace troupe::text::jinja {

struct expr;
using expr_ptr = std::unique_ptr<const expr>;

// f(value)  f(name=value)  f(*value)  f(**value)
struct argument {
  std::string name;
  expr_ptr item;
  int stars = 0;
};

struct literal {
  value constant;
};
struct name_use {
  std::string name;
};
struct sequence_display {
  bool is_tuple = false;
  std::vector<expr_ptr> items;
};
struct dict_display {
  std::vector<std::pair<expr_ptr, expr_ptr>> entries;
};
struct unary_use {
  char op = '-';  // - + or ! for `not`
  expr_ptr operand;
};
// Left-associative operators of one rank are a flat chain: long sums do not nest.
struct binary_chain {
  expr_ptr first;
  std::vector<std::pair<binary_op, expr_ptr>> rest;
};
struct concatenation {  // a ~ b ~ c
  std::vector<expr_ptr> parts;
};
struct logic_chain {  // and, or
  bool is_and = false;
  std::vector<expr_ptr> parts;
};
struct comparison_chain {  // a < b <= c
  expr_ptr first;
  std::vector<std::pair<compare_op, expr_ptr>> rest;
};
struct conditional {
  expr_ptr test;
  expr_ptr then;
  expr_ptr otherwise;  // may be null: undefined
};
struct attribute_use {  // a.b
  expr_ptr object;
  std::string name;
};
struct subscript_use {  // a[b]
  expr_ptr object;
  expr_ptr index;
};
struct slice_use {  // a[b:c:d], each may be null
  expr_ptr object;
  expr_ptr start, stop, step;
};
struct call_use {
  expr_ptr callee;
  std::vector<argument> arguments;
};
struct filter_use {
  expr_ptr input;  // null: the text of a filter or set block
  std::string name;
  std::vector<argument> arguments;
};
struct test_use {
  expr_ptr input;
  std::string name;
  bool negated = false;
  std::vector<argument> arguments;
};

struct expr {
  int line = 0;
  std::variant<literal, name_use, sequence_display, dict_display, unary_use, binary_chain, concatenation,
               logic_chain, comparison_chain, conditional, attribute_use, subscript_use, slice_use, call_use,
               filter_use, test_use>
      node;
};

struct statement;
using body = std::vector<statement>;

// What is assigned to: a name, a name's attribute (of a namespace), or several targets.
struct target {
  std::string name;
  std::string attribute;
  std::vector<target> parts;  // not empty: unpack
};

struct text_output {
  std::string text;
};
struct value_output {
  expr_ptr item;
};
struct if_block {
  std::vector<std::pair<expr_ptr, body>> branches;
  body otherwise;
};
struct for_block {
  target each;
  expr_ptr items;
  expr_ptr filter;  // may be null
  body content;
  body otherwise;  // when there is no item
};
struct set_value {
  target to;
  expr_ptr item;
};
struct set_block {
  target to;
  expr_ptr filter;  // may be null
  body content;
};
struct parameter {
  std::string name;
  expr_ptr otherwise;  // may be null
};
struct macro_object {
  std::string name;
  std::vector<parameter> parameters;
  body content;
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
};
struct macro_block {
  std::shared_ptr<const macro_object> macro;
};
struct call_block {
  std::shared_ptr<const macro_object> caller;
  expr_ptr call;  // a call_use
};
struct filter_block {
  expr_ptr filter;
  body content;
};
struct with_block {
  std::vector<std::pair<target, expr_ptr>> values;
  body content;
};
struct break_out {};
struct continue_on {};

struct statement {
  int line = 0;
  std::variant<text_output, value_output, if_block, for_block, set_value, set_block, macro_block, call_block,
               filter_block, with_block, break_out, continue_on>
      node;
};

}  // namespace troupe::text::jinja
