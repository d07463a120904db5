#include "actors/tokenizer/jinja/interpreter.hpp"

#include "actors/tokenizer/jinja/filters.hpp"

namespace troupe::text::jinja {

// A scope inside the present one, for as long as it lives.
class interpreter::inner_scope {
 public:
  explicit inner_scope(interpreter& i) : inner_scope(i, i.scope_) {}
  inner_scope(interpreter& i, scope_ptr outer) : interpreter_(i), saved_(i.scope_) {
    i.scope_ = std::make_shared<scope>();
    i.scope_->outer = std::move(outer);
  }
  ~inner_scope() { interpreter_.scope_ = std::move(saved_); }
  inner_scope(const inner_scope&) = delete;
  inner_scope& operator=(const inner_scope&) = delete;

 private:
  interpreter& interpreter_;
  scope_ptr saved_;
};

// Output goes into a text of its own for as long as it lives.
class interpreter::capture {
 public:
  explicit capture(interpreter& i) : interpreter_(i), saved_(i.out_) { i.out_ = &text; }
  ~capture() { interpreter_.out_ = saved_; }
  capture(const capture&) = delete;
  capture& operator=(const capture&) = delete;

  std::string text;

 private:
  interpreter& interpreter_;
  std::string* saved_;
};

interpreter::interpreter(const boost::json::object& variables, const template_limits& limits)
    : budget_(limits) {
  scope_ = std::make_shared<scope>();
  for (const std::string_view name : {"range", "dict", "namespace", "raise_exception", "strftime_now"}) {
    scope_->names.emplace(name, value(std::make_shared<const callable>(callable{std::string(name)})));
  }
  for (const auto& [name, v] : variables)
    scope_->names.insert_or_assign(std::string_view(name), from_json(budget_, v));
}

std::string interpreter::run(const body& program) {
  const inner_scope template_scope(*this);
  capture all(*this);
  run_all(program);
  return std::move(all.text);
}

void interpreter::write(std::string_view text) {
  budget_.bytes(text.size());
  budget_.fits(out_->size() + text.size());
  out_->append(text);
}

interpreter::flow interpreter::run_all(const body& statements) {
  const budget::level nested(budget_);
  for (const statement& s : statements) {
    budget_.step();
    line_ = s.line;
    const flow f = std::visit([this](const auto& node) { return run_one(node); }, s.node);
    if (f != flow::on) return f;
  }
  return flow::on;
}

interpreter::flow interpreter::run_one(const text_output& s) {
  write(s.text);
  return flow::on;
}

interpreter::flow interpreter::run_one(const value_output& s) {
  const value v = evaluate(*s.item);
  v.is_string() ? write(v.text()) : write(to_text(budget_, v));
  return flow::on;
}

interpreter::flow interpreter::run_one(const if_block& s) {
  for (const auto& [test, content] : s.branches) {
    if (truth(evaluate(*test))) return run_all(content);
  }
  return run_all(s.otherwise);
}

// The loop's items, those only that its filter lets pass.
std::vector<value> interpreter::select_items(const for_block& s) {
  const list_ptr all = iterate(budget_, evaluate(*s.items));
  if (!s.filter) return all->items;
  std::vector<value> kept;
  for (const value& item : all->items) {
    const inner_scope round(*this);
    assign(s.each, item);
    if (truth(evaluate(*s.filter))) kept.push_back(item);
  }
  return kept;
}

interpreter::flow interpreter::run_one(const for_block& s) {
  const list_ptr items = make_list(budget_, select_items(s)).as<list_ptr>();
  flow result = flow::on;
  bool finished_one = false;
  const auto changes = std::make_shared<loop_object::memory>();
  const std::shared_ptr<void> at_its_end(
      nullptr, [changes](void*) { *changes = {.running = false, .told = false, .last = {}}; });
  for (std::size_t i = 0; i < items->items.size(); ++i) {
    budget_.step();
    const inner_scope round(*this);
    scope_->names.emplace("loop", value(std::make_shared<const loop_object>(loop_object{items, i, changes})));
    assign(s.each, items->items[i]);
    const flow f = run_all(s.content);
    finished_one = finished_one || f == flow::on;
    if (f == flow::out_of_loop) break;
  }
  if (!finished_one) {  // as in Jinja: not a single round came to its end
    const inner_scope block(*this);
    result = run_all(s.otherwise);
  }
  return result;
}

void interpreter::assign(const target& to, value v) {
  if (!to.parts.empty()) {
    const list_ptr items = iterate(budget_, v);
    const std::size_t want = to.parts.size();
    const std::size_t have = items->items.size();
    if (have < want) raise("not enough values to unpack (expected {}, got {})", want, have);
    if (have > want) raise("too many values to unpack (expected {})", want);
    for (std::size_t i = 0; i < want; ++i) assign(to.parts[i], items->items[i]);
    return;
  }
  if (to.attribute.empty()) {
    scope_->names.insert_or_assign(std::string_view(to.name), std::move(v));
    return;
  }
  const value object = evaluate(name_use{to.name});
  if (!object.is<namespace_object*>()) raise("cannot assign attribute on non-namespace object");
  budget_.step(object.as<namespace_object*>()->attributes.size() / 8);
  object.as<namespace_object*>()->set(to.attribute, std::move(v));
}

interpreter::flow interpreter::run_one(const set_value& s) {
  assign(s.to, evaluate(*s.item));
  return flow::on;
}

std::string interpreter::render_inner(const body& statements) {
  const inner_scope block(*this);
  capture inner(*this);
  run_all(statements);
  return std::move(inner.text);
}

interpreter::flow interpreter::run_one(const set_block& s) {
  value text = make_string(budget_, render_inner(s.content));
  if (s.filter) {
    const value* saved = std::exchange(filter_input_, &text);
    value filtered = evaluate(*s.filter);
    filter_input_ = saved;
    text = std::move(filtered);
  }
  assign(s.to, std::move(text));
  return flow::on;
}

interpreter::flow interpreter::run_one(const filter_block& s) {
  const value text = make_string(budget_, render_inner(s.content));
  const value* saved = std::exchange(filter_input_, &text);
  const value filtered = evaluate(*s.filter);
  filter_input_ = saved;
  write(to_text(budget_, filtered));
  return flow::on;
}

value interpreter::make_closure(const std::shared_ptr<const macro_object>& macro) {
  budget_.step(16);  // it and its scope live until the end
  closures_.push_back(std::make_unique<closure>(closure{macro.get(), scope_}));
  callable c;
  c.name = macro->name;
  c.closure = closures_.back().get();
  return value(std::make_shared<const callable>(std::move(c)));
}

interpreter::flow interpreter::run_one(const macro_block& s) {
  scope_->names.insert_or_assign(std::string_view(s.macro->name), make_closure(s.macro));
  return flow::on;
}

interpreter::flow interpreter::run_one(const call_block& s) {
  const auto& use = std::get<call_use>(s.call->node);
  const value callee = evaluate(*use.callee);
  call_arguments arguments = evaluate_arguments(use.arguments);
  arguments.named.emplace_back("caller", make_closure(s.caller));
  write(to_text(budget_, call(callee, arguments)));
  return flow::on;
}

interpreter::flow interpreter::run_one(const with_block& s) {
  std::vector<value> values;
  for (const auto& entry : s.values) values.push_back(evaluate(*entry.second));
  const inner_scope block(*this);
  for (std::size_t i = 0; i < values.size(); ++i) assign(s.values[i].first, std::move(values[i]));
  return run_all(s.content);
}

}  // namespace troupe::text::jinja
