#include <algorithm>
#include <charconv>

#include "actors/tokenizer/jinja/filters.hpp"
#include "actors/tokenizer/jinja/parser.hpp"

namespace troupe::text::jinja {

void parser::count_step() {
  if (++steps_ > step_limit)
    refuse(fmt::format("more than {} attributes, calls and filters in one tag", step_limit));
}

expr_ptr parser::make(int line, decltype(expr::node) node) const {
  return std::make_unique<const expr>(expr{line, std::move(node)});
}

expr_ptr parser::parse_expression() {
  const nesting level(*this);
  const int line = now().line;
  expr_ptr e = parse_or();
  while (skip_name("if")) {
    count_step();
    conditional c;
    c.then = std::move(e);
    ++conditional_;
    c.test = parse_or();
    if (skip_name("else")) c.otherwise = parse_expression();
    --conditional_;
    e = make(line, std::move(c));
  }
  return e;
}

expr_ptr parser::parse_or() {
  return parse_logic(false);
}

expr_ptr parser::parse_logic(bool is_and) {
  const int line = now().line;
  const std::string_view word = is_and ? "and" : "or";
  const auto operand = [&] { return is_and ? parse_not() : parse_logic(true); };
  expr_ptr first = operand();
  if (!is_name(word)) return first;
  logic_chain chain;
  chain.is_and = is_and;
  chain.parts.push_back(std::move(first));
  while (skip_name(word)) chain.parts.push_back(operand());
  return make(line, std::move(chain));
}

expr_ptr parser::parse_not() {
  if (!is_name("not")) return parse_comparison();
  const nesting level(*this);
  const int line = take().line;
  return make(line, unary_use{'!', parse_not()});
}

expr_ptr parser::parse_comparison() {
  static constexpr std::pair<std::string_view, compare_op> operators[] = {
      {"==", compare_op::equal},      {"!=", compare_op::not_equal}, {"<", compare_op::less},
      {"<=", compare_op::less_equal}, {">", compare_op::greater},    {">=", compare_op::greater_equal}};
  const int line = now().line;
  comparison_chain chain;
  chain.first = parse_sum();
  while (true) {
    const auto* found = std::find_if(std::begin(operators), std::end(operators),
                                     [&](const auto& o) { return is_op(o.first); });
    if (found != std::end(operators)) {
      take();
      chain.rest.emplace_back(found->second, parse_sum());
    } else if (skip_name("in")) {
      chain.rest.emplace_back(compare_op::in, parse_sum());
    } else if (is_name("not") && ahead(1).kind == token_kind::name && ahead(1).text == "in") {
      take();
      take();
      chain.rest.emplace_back(compare_op::not_in, parse_sum());
    } else {
      break;
    }
  }
  if (chain.rest.empty()) return std::move(chain.first);
  return make(line, std::move(chain));
}

expr_ptr parser::parse_chain(expr_ptr (parser::*operand)(),
                             std::initializer_list<std::pair<std::string_view, binary_op>> operators) {
  const int line = now().line;
  binary_chain chain;
  chain.first = (this->*operand)();
  while (true) {
    const auto* found =
        std::find_if(operators.begin(), operators.end(), [&](const auto& o) { return is_op(o.first); });
    if (found == operators.end()) break;
    take();
    chain.rest.emplace_back(found->second, (this->*operand)());
  }
  if (chain.rest.empty()) return std::move(chain.first);
  return make(line, std::move(chain));
}

expr_ptr parser::parse_sum() {
  return parse_chain(&parser::parse_concatenation, {{"+", binary_op::add}, {"-", binary_op::subtract}});
}

expr_ptr parser::parse_concatenation() {
  const int line = now().line;
  expr_ptr first = parse_product();
  if (!is_op("~")) return first;
  concatenation c;
  c.parts.push_back(std::move(first));
  while (skip_op("~")) c.parts.push_back(parse_product());
  return make(line, std::move(c));
}

expr_ptr parser::parse_product() {
  return parse_chain(&parser::parse_power, {{"*", binary_op::multiply},
                                            {"/", binary_op::divide},
                                            {"//", binary_op::floor_divide},
                                            {"%", binary_op::modulo}});
}

expr_ptr parser::parse_power() {
  return parse_chain(&parser::parse_unary, {{"**", binary_op::power}});
}

expr_ptr parser::parse_unary() {
  return parse_unary_with(true);
}

expr_ptr parser::parse_unary_with(bool with_filters) {
  const int line = now().line;
  expr_ptr e;
  if (is_op("-") || is_op("+")) {
    const nesting level(*this);
    const char op = take().text[0];
    e = make(line, unary_use{op, parse_unary_with(false)});
  } else {
    e = parse_primary();
  }
  e = parse_postfix(std::move(e));
  return with_filters ? parse_filters_and_tests(std::move(e)) : std::move(e);
}

expr_ptr parser::parse_number() {
  const token t = take();
  if (t.kind == token_kind::real) {
    double d = 0;
    std::from_chars(t.text.data(), t.text.data() + t.text.size(), d);
    return make(t.line, literal{value(d)});
  }
  integer number = 0;
  for (const char c : t.text) {
    if (__builtin_mul_overflow(number, static_cast<integer>(10), &number) ||
        __builtin_add_overflow(number, static_cast<integer>(c - '0'), &number)) {
      throw failure{fmt::format("the number {} is too large", t.text), t.line};
    }
  }
  return make(t.line, literal{value(number)});
}

expr_ptr parser::parse_primary() {
  const int line = now().line;
  switch (now().kind) {
    case token_kind::name: {
      const std::string name = take().text;
      if (name == "true" || name == "True") return make(line, literal{value(true)});
      if (name == "false" || name == "False") return make(line, literal{value(false)});
      if (name == "none" || name == "None") return make(line, literal{value(none_type{})});
      return make(line, name_use{name});
    }
    case token_kind::string: {
      std::string text;
      while (now().kind == token_kind::string) text += take().text;  // 'a' 'b' is 'ab'
      return make(line, literal{value(std::move(text))});
    }
    case token_kind::whole:
    case token_kind::real:
      return parse_number();
    default:
      break;
  }
  if (skip_op("(")) return parse_tuple(true);
  if (skip_op("[")) return parse_list();
  if (skip_op("{")) return parse_dict();
  unexpected("an expression");
}

// Items with commas between them are a tuple; a single one is itself.
expr_ptr parser::parse_tuple(bool in_parentheses) {
  const int line = now().line;
  sequence_display tuple;
  tuple.is_tuple = true;
  bool comma = false;
  const auto ends = [&] {
    return is_op(")") || now().kind == token_kind::variable_end || now().kind == token_kind::block_end ||
           is_name("in");
  };
  while (!ends()) {
    tuple.items.push_back(parse_expression());
    comma = skip_op(",");
    if (!comma) break;
  }
  const bool single = tuple.items.size() == 1 && !comma;
  if (tuple.items.empty() && !in_parentheses) unexpected("an expression");
  if (in_parentheses) expect_op(")");
  return single ? std::move(tuple.items[0]) : make(line, std::move(tuple));
}

expr_ptr parser::parse_list() {
  const int line = now().line;
  sequence_display list;
  while (!is_op("]")) {
    list.items.push_back(parse_expression());
    if (!skip_op(",")) break;
  }
  expect_op("]");
  return make(line, std::move(list));
}

expr_ptr parser::parse_dict() {
  const int line = now().line;
  dict_display dict;
  while (!is_op("}")) {
    expr_ptr key = parse_expression();
    expect_op(":");
    dict.entries.emplace_back(std::move(key), parse_expression());
    if (!skip_op(",")) break;
  }
  expect_op("}");
  return make(line, std::move(dict));
}

expr_ptr parser::parse_postfix(expr_ptr e) {
  for (;; count_step()) {
    const int line = now().line;
    if (skip_op(".")) {
      if (now().kind == token_kind::whole) {
        e = make(line, subscript_use{std::move(e), parse_number()});
      } else {
        std::string name = take_name("a name after '.'");
        e = make(line, attribute_use{std::move(e), std::move(name)});
      }
    } else if (skip_op("[")) {
      e = parse_brackets(std::move(e));
    } else if (is_op("(")) {
      e = parse_call(std::move(e));
    } else {
      return e;
    }
  }
}

expr_ptr parser::parse_brackets(expr_ptr object) {
  const int line = now().line;
  slice_use s;
  bool is_slice = false;
  const auto part = [&] { return is_op(":") || is_op("]") ? expr_ptr() : parse_expression(); };
  s.start = part();
  if (skip_op(":")) {
    is_slice = true;
    s.stop = part();
    if (skip_op(":")) s.step = part();
  }
  if (!is_slice && !s.start) unexpected("an index");
  expect_op("]");
  if (!is_slice) return make(line, subscript_use{std::move(object), std::move(s.start)});
  s.object = std::move(object);
  return make(line, std::move(s));
}

expr_ptr parser::parse_call(expr_ptr callee) {
  const int line = now().line;
  return make(line, call_use{std::move(callee), parse_arguments()});
}

std::vector<argument> parser::parse_arguments() {
  expect_op("(");
  std::vector<argument> out;
  while (!is_op(")")) {
    argument a;
    if (skip_op("**")) {
      a.stars = 2;
    } else if (skip_op("*")) {
      a.stars = 1;
    } else if (now().kind == token_kind::name && ahead(1).kind == token_kind::op && ahead(1).text == "=") {
      a.name = take().text;
      take();
    } else if (!out.empty() && (!out.back().name.empty() || out.back().stars == 2)) {
      refuse("a positional argument stands after a named one");
    }
    a.item = parse_expression();
    out.push_back(std::move(a));
    if (!skip_op(",")) break;
  }
  expect_op(")");
  return out;
}

std::string parser::parse_dotted_name(std::string_view what) {
  std::string name = take_name(what);
  while (skip_op(".")) name += "." + take_name(what);
  return name;
}

expr_ptr parser::parse_filters_and_tests(expr_ptr e) {
  for (;; count_step()) {
    if (is_op("|")) {
      e = parse_filter(std::move(e));
    } else if (is_name("is")) {
      e = parse_test(std::move(e));
    } else if (is_op("(")) {
      e = parse_call(std::move(e));
    } else {
      return e;
    }
  }
}

// After {% filter and {% set x |: filters only, the first without its bar.
expr_ptr parser::parse_filter_chain(expr_ptr e) {
  while (is_op("|")) e = parse_filter(std::move(e));
  return e;
}

expr_ptr parser::parse_filter(expr_ptr input) {
  skip_op("|");
  count_step();
  const int line = now().line;
  filter_use f;
  f.input = std::move(input);
  f.name = parse_dotted_name("the name of a filter");
  if (!is_known_filter(f.name) && conditional_ == 0) throw failure{unknown_filter(f.name), line};
  if (is_op("(")) f.arguments = parse_arguments();
  return make(line, std::move(f));
}

expr_ptr parser::parse_test(expr_ptr input) {
  const int line = take().line;
  test_use t;
  t.input = std::move(input);
  t.negated = skip_name("not");
  t.name = parse_dotted_name("the name of a test");
  if (!is_known_test(t.name) && conditional_ == 0) throw failure{unknown_test(t.name), line};
  const token_kind kind = now().kind;
  const bool word = kind == token_kind::name && !is_name("else") && !is_name("or") && !is_name("and");
  if (is_op("(")) {
    t.arguments = parse_arguments();
  } else if (word || kind == token_kind::string || kind == token_kind::whole || kind == token_kind::real ||
             is_op("[") || is_op("{")) {
    if (is_name("is")) refuse("tests cannot be chained with is");
    const nesting level(*this);
    argument a;
    a.item = parse_postfix(parse_primary());
    t.arguments.push_back(std::move(a));
  }
  return make(line, std::move(t));
}

}  // namespace troupe::text::jinja
