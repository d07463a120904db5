#include <algorithm>

#include "actors/tokenizer/jinja/parser.hpp"

namespace troupe::text::jinja {

void parser::end_tag() {
  if (now().kind != token_kind::block_end) unexpected("'%}'");
  take();
}

// Statements up to one of `endings`, whose name is left to be read. Without endings: up to the end of the template.
body parser::parse_body(std::initializer_list<std::string_view> endings, std::string_view opened_by,
                        int line) {
  const nesting level(*this);
  body out;
  while (true) {
    const int here = now().line;
    steps_ = 0;
    switch (now().kind) {
      case token_kind::data:
        out.push_back({here, text_output{take().text}});
        break;
      case token_kind::variable_begin:
        take();
        out.push_back({here, value_output{parse_tuple(false)}});
        if (now().kind != token_kind::variable_end) unexpected("'}}'");
        take();
        break;
      case token_kind::block_begin: {
        take();
        const auto ends = [&](std::string_view e) { return is_name(e); };
        if (std::any_of(endings.begin(), endings.end(), ends)) return out;
        parse_tag(out);
        break;
      }
      default:
        if (endings.size() == 0) return out;
        refuse(fmt::format("{{% {} %}} of line {} is not closed with {{% {} %}}", opened_by, line,
                           *(endings.end() - 1)));
    }
  }
}

body parser::parse_conditional_body(std::initializer_list<std::string_view> endings,
                                    std::string_view opened_by, int line) {
  ++conditional_;
  body out = parse_body(endings, opened_by, line);
  --conditional_;
  return out;
}

void parser::parse_tag(body& out) {
  using reader = statement (parser::*)(int);
  static constexpr std::pair<std::string_view, reader> tags[] = {
      {"if", &parser::parse_if},           {"for", &parser::parse_for},
      {"set", &parser::parse_set},         {"macro", &parser::parse_macro},
      {"call", &parser::parse_call_block}, {"filter", &parser::parse_filter_block},
      {"with", &parser::parse_with},       {"generation", &parser::parse_generation}};
  const int line = now().line;
  const std::string name = now().kind == token_kind::name ? now().text : std::string();
  if (name.empty()) unexpected("the name of a tag");
  if (name == "break" || name == "continue") {
    if (loops_ == 0) refuse(fmt::format("'{}' outside of a for block", name));
    take();
    end_tag();
    name == "break" ? out.push_back({line, break_out{}}) : out.push_back({line, continue_on{}});
    return;
  }
  for (const auto& [tag, read] : tags) {
    if (tag != name) continue;
    take();
    out.push_back((this->*read)(line));
    return;
  }
  for (const std::string_view other : {"include", "import", "from", "extends", "block"}) {
    if (name == other) refuse(fmt::format("'{}' is not available: a chat template stands alone", name));
  }
  refuse(fmt::format(
      "unexpected tag '{}'; known are if, for, set, macro, call, filter, with, generation, break, "
      "continue, raw and what closes them",
      name));
}

statement parser::parse_if(int line) {
  if_block block;
  while (true) {
    expr_ptr test = parse_tuple(false);
    end_tag();
    block.branches.emplace_back(std::move(test),
                                parse_conditional_body({"elif", "else", "endif"}, "if", line));
    if (!skip_name("elif")) break;
  }
  if (skip_name("else")) {
    end_tag();
    block.otherwise = parse_conditional_body({"endif"}, "if", line);
  }
  expect_name("endif");
  end_tag();
  return {line, std::move(block)};
}

statement parser::parse_for(int line) {
  for_block block;
  block.each = parse_target(true);
  expect_name("in");
  // No inline if here: `if` begins the loop's filter.
  {
    const nesting level(*this);
    sequence_display tuple;
    tuple.is_tuple = true;
    tuple.items.push_back(parse_or());
    bool comma = false;
    while (skip_op(",")) {
      comma = true;
      if (now().kind == token_kind::block_end || is_name("if")) break;
      tuple.items.push_back(parse_or());
    }
    block.items = comma ? make(line, std::move(tuple)) : std::move(tuple.items[0]);
  }
  if (skip_name("if")) block.filter = parse_expression();
  if (is_name("recursive")) refuse("recursive loops are not supported");
  end_tag();
  ++loops_;
  block.content = parse_conditional_body({"else", "endfor"}, "for", line);
  --loops_;
  if (skip_name("else")) {
    end_tag();
    block.otherwise = parse_conditional_body({"endfor"}, "for", line);
  }
  expect_name("endfor");
  end_tag();
  return {line, std::move(block)};
}

target parser::parse_single_target() {
  const nesting level(*this);
  target t;
  if (skip_op("(")) {
    t = parse_target(true);
    expect_op(")");
    return t;
  }
  t.name = take_name("a name to assign to");
  for (const std::string_view reserved : {"true", "false", "none", "True", "False", "None"}) {
    if (t.name == reserved) refuse(fmt::format("cannot assign to '{}'", reserved));
  }
  if (skip_op(".")) t.attribute = take_name("an attribute name");
  return t;
}

target parser::parse_target(bool may_be_tuple) {
  target first = parse_single_target();
  if (!may_be_tuple || !is_op(",")) return first;
  target all;
  all.parts.push_back(std::move(first));
  while (skip_op(",")) {
    if (now().kind != token_kind::name && !is_op("(")) break;
    if (is_name("in")) break;
    all.parts.push_back(parse_single_target());
  }
  return all;
}

statement parser::parse_set(int line) {
  target to = parse_target(true);
  if (skip_op("=")) {
    expr_ptr item = parse_tuple(false);
    end_tag();
    return {line, set_value{std::move(to), std::move(item)}};
  }
  set_block block;
  block.to = std::move(to);
  if (is_op("|")) block.filter = parse_filter_chain(nullptr);
  end_tag();
  block.content = parse_body({"endset"}, "set", line);
  expect_name("endset");
  end_tag();
  return {line, std::move(block)};
}

std::vector<parameter> parser::parse_parameters() {
  std::vector<parameter> out;
  expect_op("(");
  while (!is_op(")")) {
    parameter p;
    p.name = take_name("the name of a parameter");
    if (skip_op("=")) {
      p.otherwise = parse_expression();
    } else if (!out.empty() && out.back().otherwise) {
      refuse(fmt::format("parameter '{}' needs a default, as one before it has one", p.name));
    }
    out.push_back(std::move(p));
    if (!skip_op(",")) break;
  }
  expect_op(")");
  return out;
}

// Which of the implicit names the body speaks of, among the tokens since `first_token`.
std::shared_ptr<const macro_object> parser::finish_macro(macro_object macro, std::size_t first_token) {
  for (std::size_t i = first_token; i < at_; ++i) {
    if (tokens_[i].kind != token_kind::name) continue;
    macro.uses_varargs |= tokens_[i].text == "varargs";
    macro.uses_kwargs |= tokens_[i].text == "kwargs";
    macro.uses_caller |= tokens_[i].text == "caller";
  }
  return std::make_shared<const macro_object>(std::move(macro));
}

statement parser::parse_macro(int line) {
  macro_object macro;
  macro.name = take_name("the name of the macro");
  macro.parameters = parse_parameters();
  end_tag();
  const std::size_t first = at_;
  const int loops = std::exchange(loops_, 0);
  macro.content = parse_conditional_body({"endmacro"}, "macro", line);
  loops_ = loops;
  auto made = finish_macro(std::move(macro), first);
  expect_name("endmacro");
  end_tag();
  return {line, macro_block{std::move(made)}};
}

statement parser::parse_call_block(int line) {
  macro_object caller;
  caller.name = "caller";
  if (is_op("(")) caller.parameters = parse_parameters();
  call_block block;
  block.call = parse_expression();
  if (!std::holds_alternative<call_use>(block.call->node))
    throw failure{"expected a call in {% call %}", line};
  end_tag();
  const std::size_t first = at_;
  const int loops = std::exchange(loops_, 0);
  caller.content = parse_body({"endcall"}, "call", line);
  loops_ = loops;
  block.caller = finish_macro(std::move(caller), first);
  expect_name("endcall");
  end_tag();
  return {line, std::move(block)};
}

statement parser::parse_filter_block(int line) {
  filter_block block;
  block.filter = parse_filter_chain(parse_filter(nullptr));
  end_tag();
  block.content = parse_body({"endfilter"}, "filter", line);
  expect_name("endfilter");
  end_tag();
  return {line, std::move(block)};
}

statement parser::parse_with(int line) {
  with_block block;
  while (now().kind != token_kind::block_end) {
    target to = parse_target(false);
    expect_op("=");
    block.values.emplace_back(std::move(to), parse_expression());
    if (!skip_op(",")) break;
  }
  end_tag();
  block.content = parse_body({"endwith"}, "with", line);
  expect_name("endwith");
  end_tag();
  return {line, std::move(block)};
}

// Marks what the assistant said, for training; here it is only a scope.
statement parser::parse_generation(int line) {
  end_tag();
  with_block block;
  block.content = parse_body({"endgeneration"}, "generation", line);
  expect_name("endgeneration");
  end_tag();
  return {line, std::move(block)};
}

}  // namespace troupe::text::jinja
