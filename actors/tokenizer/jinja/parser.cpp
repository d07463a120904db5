#include "actors/tokenizer/jinja/parser.hpp"

namespace troupe::text::jinja {

bool parser::skip_op(std::string_view op) {
  if (!is_op(op)) return false;
  take();
  return true;
}

bool parser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  take();
  return true;
}

void parser::expect_op(std::string_view op) {
  if (!skip_op(op)) unexpected(fmt::format("'{}'", op));
}

void parser::expect_name(std::string_view name) {
  if (!skip_name(name)) unexpected(fmt::format("'{}'", name));
}

std::string parser::take_name(std::string_view what) {
  if (now().kind != token_kind::name) unexpected(what);
  return take().text;
}

void parser::refuse(const std::string& what) const {
  throw failure{what, now().line};
}

void parser::unexpected(std::string_view expected) const {
  refuse(fmt::format("expected {}, found {}", expected, describe(now())));
}

body parser::parse() {
  return parse_body({}, "", 1);
}

}  // namespace troupe::text::jinja
