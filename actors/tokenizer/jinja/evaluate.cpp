#include <algorithm>

#include "actors/tokenizer/jinja/filters.hpp"
#include "actors/tokenizer/jinja/interpreter.hpp"

namespace troupe::text::jinja {

value interpreter::evaluate(const expr& e) {
  const budget::level nested(budget_);
  budget_.step();
  line_ = e.line;
  return std::visit([this](const auto& node) { return evaluate(node); }, e.node);
}

value interpreter::evaluate(const name_use& e) {
  for (const scope* s = scope_.get(); s != nullptr; s = s->outer.get()) {
    const auto found = s->names.find(e.name);
    if (found != s->names.end()) return found->second;
  }
  return value::missing(fmt::format("'{}' is undefined", e.name));
}

value interpreter::evaluate(const sequence_display& e) {
  std::vector<value> items;
  items.reserve(e.items.size());
  for (const auto& item : e.items) items.push_back(evaluate(*item));
  return make_list(budget_, std::move(items), e.is_tuple ? list_kind::tuple : list_kind::list);
}

value interpreter::evaluate(const dict_display& e) {
  dict_object d;
  for (const auto& [key_expr, item_expr] : e.entries) {
    value key = evaluate(*key_expr);
    if (key.is_list() || key.is_dict()) raise("unhashable type: '{}'", type_name(key));
    d.set(std::move(key), evaluate(*item_expr));
  }
  return make_dict(budget_, std::move(d));
}

value interpreter::evaluate(const unary_use& e) {
  const value v = evaluate(*e.operand);
  if (e.op == '!') return value(!truth(v));
  return e.op == '-' ? negative(v) : positive(v);
}

value interpreter::evaluate(const binary_chain& e) {
  value left = evaluate(*e.first);
  for (const auto& [op, right] : e.rest) left = binary(budget_, op, left, evaluate(*right));
  return left;
}

value interpreter::evaluate(const concatenation& e) {
  std::string text;
  for (const auto& part : e.parts) {
    text += to_text(budget_, evaluate(*part));
    budget_.fits(text.size());
  }
  return make_string(budget_, std::move(text));
}

value interpreter::evaluate(const logic_chain& e) {
  value last;
  for (const auto& part : e.parts) {
    last = evaluate(*part);
    if (truth(last) != e.is_and) break;
  }
  return last;
}

value interpreter::evaluate(const comparison_chain& e) {
  value left = evaluate(*e.first);
  for (const auto& [op, right_expr] : e.rest) {
    value right = evaluate(*right_expr);
    if (!compare(budget_, op, left, right)) return value(false);
    left = std::move(right);
  }
  return value(true);
}

value interpreter::evaluate(const conditional& e) {
  const int line = line_;
  if (truth(evaluate(*e.test))) return evaluate(*e.then);
  if (e.otherwise) return evaluate(*e.otherwise);
  return value::missing(fmt::format(
      "the inline if-expression on line {} evaluated to false and no else section was defined.", line));
}

value interpreter::evaluate(const attribute_use& e) {
  return attribute(budget_, evaluate(*e.object), e.name);
}

value interpreter::evaluate(const subscript_use& e) {
  const value object = evaluate(*e.object);
  const value index = evaluate(*e.index);
  must_be_defined(object);
  const bool keyed = object.is_dict() && object.dict().find(index) != nullptr;
  if (!keyed && index.is_string()) {  // Jinja's second try: an attribute of that name
    value found = attribute(budget_, object, index.text());
    if (!found.is_undefined()) return found;
  }
  return subscript(budget_, object, index);
}

value interpreter::evaluate(const slice_use& e) {
  const value object = evaluate(*e.object);
  const value start = evaluate_or_undefined(e.start);
  const value stop = evaluate_or_undefined(e.stop);
  const value step = evaluate_or_undefined(e.step);
  return slice(budget_, object, start, stop, step);
}

call_arguments interpreter::evaluate_arguments(const std::vector<argument>& arguments) {
  call_arguments out;
  for (const argument& a : arguments) {
    value v = evaluate(*a.item);
    if (a.stars == 1) {
      const list_ptr items = iterate(budget_, v);
      budget_.step(items->items.size());
      out.positional.insert(out.positional.end(), items->items.begin(), items->items.end());
    } else if (a.stars == 2) {
      if (!v.is_dict()) raise("argument after ** must be a mapping, not {}", type_name(v));
      for (const auto& [key, item] : v.dict().entries) {
        if (!key.is_string()) raise("keywords must be strings");
        budget_.step();
        out.named.emplace_back(key.text(), item);
      }
    } else if (!a.name.empty()) {
      out.named.emplace_back(a.name, std::move(v));
    } else {
      out.positional.push_back(std::move(v));
    }
  }
  return out;
}

value interpreter::evaluate(const call_use& e) {
  const value callee = evaluate(*e.callee);
  const call_arguments arguments = evaluate_arguments(e.arguments);
  const int line = line_;
  value v = call(callee, arguments);
  line_ = line;
  return v;
}

value interpreter::call(const value& callee, const call_arguments& arguments) {
  must_be_defined(callee);
  if (!callee.is<callable_ptr>()) raise("'{}' object is not callable", type_name(callee));
  const callable& c = *callee.as<callable_ptr>();
  if (c.closure != nullptr) return call_macro(c, arguments);
  if (c.is_method) return call_method(budget_, c.receiver, c.name, arguments);
  if (c.name == "namespace") return make_namespace(arguments);
  return call_function(budget_, c.name, arguments);
}

value interpreter::make_namespace(const call_arguments& arguments) {
  auto made = std::make_unique<namespace_object>();
  for (const value& v : arguments.positional) {
    if (!v.is_dict()) raise("namespace() expects a dict or named values, not '{}'", type_name(v));
    for (const auto& [key, item] : v.dict().entries) made->set(to_text(budget_, key), item);
  }
  for (const auto& [name, v] : arguments.named) made->set(name, v);
  budget_.step(16);  // it lives until the end
  namespaces_.push_back(std::move(made));
  return value(namespaces_.back().get());
}

void interpreter::bind_parameters(const macro_object& macro, const call_arguments& given, scope& into) {
  const std::size_t positional = std::min(given.positional.size(), macro.parameters.size());
  if (given.positional.size() > positional && !macro.uses_varargs) {
    raise("macro '{}' takes not more than {} argument(s)", macro.name, macro.parameters.size());
  }
  dict_object rest;
  std::vector<const value*> by_name(macro.parameters.size(), nullptr);
  for (const auto& [name, v] : given.named) {
    const auto found = std::find_if(macro.parameters.begin(), macro.parameters.end(),
                                    [&n = name](const parameter& p) { return p.name == n; });
    if (found != macro.parameters.end()) {
      by_name[static_cast<std::size_t>(found - macro.parameters.begin())] = &v;
    } else if (name == "caller" && macro.uses_caller) {
      into.names.insert_or_assign("caller", v);
    } else if (macro.uses_kwargs) {
      rest.set(value(name), v);
    } else {
      raise("macro '{}' takes no keyword argument '{}'", macro.name, name);
    }
  }
  for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
    const parameter& p = macro.parameters[i];
    if (i < positional && by_name[i] != nullptr) raise("macro '{}' got '{}' twice", macro.name, p.name);
    value v = value::missing(fmt::format("parameter '{}' was not provided", p.name));
    if (i < positional)
      v = given.positional[i];
    else if (by_name[i] != nullptr)
      v = *by_name[i];
    else if (p.otherwise)
      v = evaluate(*p.otherwise);
    into.names.insert_or_assign(std::string_view(p.name), std::move(v));
  }
  if (macro.uses_varargs) {
    std::vector<value> more(given.positional.begin() + static_cast<std::ptrdiff_t>(positional),
                            given.positional.end());
    into.names.insert_or_assign("varargs", make_list(budget_, std::move(more), list_kind::tuple));
  }
  if (macro.uses_kwargs) into.names.insert_or_assign("kwargs", make_dict(budget_, std::move(rest)));
}

value interpreter::call_macro(const callable& c, const call_arguments& arguments) {
  const budget::level nested(budget_);
  const auto& home = *static_cast<const closure*>(c.closure);
  const scope_ptr saved_scope = std::exchange(scope_, std::make_shared<scope>());
  std::string* const saved_out = out_;
  std::string text;
  // An error ends the whole rendering: nothing needs to be put back then.
  scope_->outer = home.outer;
  out_ = &text;
  bind_parameters(*home.macro, arguments, *scope_);
  run_all(home.macro->content);
  scope_ = saved_scope;
  out_ = saved_out;
  return make_string(budget_, std::move(text));
}

value interpreter::evaluate(const filter_use& e) {
  const value input = e.input ? evaluate(*e.input) : *filter_input_;
  const call_arguments arguments = evaluate_arguments(e.arguments);
  return apply_filter(budget_, e.name, input, arguments);
}

value interpreter::evaluate(const test_use& e) {
  const value input = evaluate(*e.input);
  const call_arguments arguments = evaluate_arguments(e.arguments);
  return value(apply_test(budget_, e.name, input, arguments) != e.negated);
}

}  // namespace troupe::text::jinja
