// Walks a parsed template. One rendering, one thread, then thrown away.
#pragma once

#include <boost/json/object.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <memory>
#include <string>
#include <vector>

#include "actors/tokenizer/jinja/arguments.hpp"
#include "actors/tokenizer/jinja/ast.hpp"

namespace troupe::text::jinja {

class interpreter {
 public:
  // `variables` and `limits` must outlive it.
  interpreter(const boost::json::object& variables, const template_limits& limits);

  // Throws failure.
  std::string run(const body& program);

  int line() const { return line_; }  // where it works, or where it stopped

 private:
  // Names of one block. A block sees those of the blocks around it; what it sets ends with it.
  struct scope {
    boost::unordered_flat_map<std::string_view, value> names;
    std::shared_ptr<scope> outer;
  };
  using scope_ptr = std::shared_ptr<scope>;
  // A macro with the scope it was defined in. Owned by the interpreter: values refer to it by callable::closure.
  struct closure {
    const macro_object* macro = nullptr;
    scope_ptr outer;
  };
  enum class flow { on, next_round, out_of_loop };
  class inner_scope;
  class capture;

  // interpreter.cpp: statements
  flow run_all(const body& statements);
  flow run_one(const text_output& s);
  flow run_one(const value_output& s);
  flow run_one(const if_block& s);
  flow run_one(const for_block& s);
  flow run_one(const set_value& s);
  flow run_one(const set_block& s);
  flow run_one(const macro_block& s);
  flow run_one(const call_block& s);
  flow run_one(const filter_block& s);
  flow run_one(const with_block& s);
  flow run_one(const break_out&) { return flow::out_of_loop; }
  flow run_one(const continue_on&) { return flow::next_round; }
  std::vector<value> select_items(const for_block& s);
  void assign(const target& to, value v);
  void write(std::string_view text);
  std::string render_inner(const body& statements);
  value make_closure(const std::shared_ptr<const macro_object>& macro);

  // evaluate.cpp: expressions
  value evaluate(const expr& e);
  value evaluate(const literal& e) const { return e.constant; }
  value evaluate(const name_use& e);
  value evaluate(const sequence_display& e);
  value evaluate(const dict_display& e);
  value evaluate(const unary_use& e);
  value evaluate(const binary_chain& e);
  value evaluate(const concatenation& e);
  value evaluate(const logic_chain& e);
  value evaluate(const comparison_chain& e);
  value evaluate(const conditional& e);
  value evaluate(const attribute_use& e);
  value evaluate(const subscript_use& e);
  value evaluate(const slice_use& e);
  value evaluate(const call_use& e);
  value evaluate(const filter_use& e);
  value evaluate(const test_use& e);
  value evaluate_or_undefined(const expr_ptr& e) { return e ? evaluate(*e) : value(); }
  call_arguments evaluate_arguments(const std::vector<argument>& arguments);
  value call(const value& callee, const call_arguments& arguments);
  value call_macro(const callable& c, const call_arguments& arguments);
  void bind_parameters(const macro_object& macro, const call_arguments& given, scope& into);
  value make_namespace(const call_arguments& arguments);

  budget budget_;
  scope_ptr scope_;
  std::string* out_ = nullptr;
  const value* filter_input_ = nullptr;  // what a filter without an input of its own works on
  int line_ = 1;
  std::vector<std::unique_ptr<namespace_object>> namespaces_;
  std::vector<std::unique_ptr<closure>> closures_;
};

}  // namespace troupe::text::jinja
