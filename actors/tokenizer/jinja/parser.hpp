// Tokens to a tree, with Jinja's grammar.
#pragma once

#include <functional>
#include <initializer_list>

#include "actors/tokenizer/jinja/ast.hpp"
#include "actors/tokenizer/jinja/lexer.hpp"

namespace troupe::text::jinja {

class parser {
 public:
  explicit parser(std::vector<token> tokens) : tokens_(std::move(tokens)) {}

  // The whole template. Throws failure with the line.
  body parse();

 private:
  // Nesting that is still read; beyond it a template is refused before it can exhaust the stack.
  static constexpr int depth_limit = 200;
  // a.b.c(d)|e is read in a loop but nests to the left: so many steps may stand in one tag.
  static constexpr int step_limit = 1000;
  class nesting;

  // parser.cpp: tokens
  const token& now() const { return tokens_[at_]; }
  const token& ahead(std::size_t n) const { return tokens_[std::min(at_ + n, tokens_.size() - 1)]; }
  token take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool is_op(std::string_view op) const { return now().kind == token_kind::op && now().text == op; }
  bool is_name(std::string_view name) const { return now().kind == token_kind::name && now().text == name; }
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_op(std::string_view op);
  void expect_name(std::string_view name);
  std::string take_name(std::string_view what);
  [[noreturn]] void refuse(const std::string& what) const;
  [[noreturn]] void unexpected(std::string_view expected) const;

  // parse_statements.cpp
  body parse_body(std::initializer_list<std::string_view> endings, std::string_view opened_by, int line);
  void parse_tag(body& out);
  void end_tag();
  statement parse_if(int line);
  statement parse_for(int line);
  statement parse_set(int line);
  statement parse_macro(int line);
  statement parse_call_block(int line);
  statement parse_filter_block(int line);
  statement parse_with(int line);
  statement parse_generation(int line);
  std::vector<parameter> parse_parameters();
  std::shared_ptr<const macro_object> finish_macro(macro_object macro, std::size_t first_token);
  target parse_target(bool may_be_tuple);
  target parse_single_target();
  body parse_conditional_body(std::initializer_list<std::string_view> endings, std::string_view opened_by,
                              int line);

  // parse_expressions.cpp
  expr_ptr parse_expression();
  expr_ptr parse_or();
  expr_ptr parse_logic(bool is_and);
  expr_ptr parse_not();
  expr_ptr parse_comparison();
  expr_ptr parse_sum();
  expr_ptr parse_concatenation();
  expr_ptr parse_product();
  expr_ptr parse_power();
  expr_ptr parse_chain(expr_ptr (parser::*operand)(),
                       std::initializer_list<std::pair<std::string_view, binary_op>> operators);
  expr_ptr parse_unary();
  expr_ptr parse_unary_with(bool with_filters);
  expr_ptr parse_primary();
  expr_ptr parse_postfix(expr_ptr e);
  expr_ptr parse_filters_and_tests(expr_ptr e);
  expr_ptr parse_filter_chain(expr_ptr e);
  expr_ptr parse_filter(expr_ptr input);
  expr_ptr parse_test(expr_ptr input);
  expr_ptr parse_call(expr_ptr callee);
  expr_ptr parse_brackets(expr_ptr object);
  expr_ptr parse_tuple(bool in_parentheses);
  expr_ptr parse_list();
  expr_ptr parse_dict();
  expr_ptr parse_number();
  std::vector<argument> parse_arguments();
  std::string parse_dotted_name(std::string_view what);
  void count_step();
  expr_ptr make(int line, decltype(expr::node) node) const;

  std::vector<token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int steps_ = 0;        // of the kind that step_limit counts, in this tag
  int loops_ = 0;        // for blocks around: break and continue need one
  int conditional_ = 0;  // blocks around that may not run: an unknown filter in them is no error yet
};

class parser::nesting {
 public:
  explicit nesting(parser& p) : parser_(p) {
    if (parser_.depth_ >= depth_limit)
      parser_.refuse(fmt::format("nested more than {} levels deep", depth_limit));
    ++parser_.depth_;
  }
  ~nesting() { --parser_.depth_; }
  nesting(const nesting&) = delete;
  nesting& operator=(const nesting&) = delete;

 private:
  parser& parser_;
};

}  // namespace troupe::text::jinja
