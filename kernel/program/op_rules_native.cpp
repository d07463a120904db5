// Native ops: all that can be said without their module; check_native_ops() asks it for the rest.
#include <cmath>
#include <unordered_set>

#include "kernel/program/op_rules.hpp"

namespace troupe::program {

namespace {

void check_attributes(const op_view& v, const NativeAttrs& a) {
  v.expect_range("attributes", size(a.attributes()), 0, max_native_operands);
  std::unordered_set<std::string_view> names;
  for (std::uint32_t i = 0; i < size(a.attributes()); ++i) {
    const Attribute& one = *a.attributes()->Get(i);
    check_name(v.where, "attribute", one.name());
    if (!names.insert(text(one.name())).second) refuse(v.where, "attribute {} comes twice", text(one.name()));
    if (!std::isfinite(one.value()))
      refuse(v.where, "attribute {}: expected a finite number, found {}", text(one.name()), one.value());
  }
}

void check_states(const op_view& v, const NativeAttrs& a, Rows rows) {
  v.expect_range("states", size(a.states()), 0, max_native_operands);
  for (std::uint32_t i = 0; i < size(a.states()); ++i) {
    const StateUse& use = *a.states()->Get(i);
    if (rows != Rows::tokens) refuse(v.where, "states: expected inputs and outputs [T, ...], found [R, ...]");
    if (use.cache() >= v.history.written.size() ||
        v.program.caches()->Get(use.cache())->kind() != CacheKind::recurrent)
      refuse(v.where, "state {}: expected a recurrent cache, found {}", i, use.cache());
    v.mark_written(use.cache(), use.layer());
  }
}

}  // namespace

void check_native(const op_view& v) {
  const NativeAttrs& a = *v.op.attrs_as_NativeAttrs();
  check_name(v.where, "op", a.op());
  v.expect_range("version", a.version(), 1, max_dimension);
  const Rows rows = v.out(0).rows();
  for (std::uint32_t i = 0; i < size(v.op.inputs()); ++i)
    v.expect("input", v.in(i), rows, op_view::width(v.in(i)), v.in(i).dtype());
  for (std::uint32_t i = 0; i < size(v.op.outputs()); ++i)
    v.expect("output", v.out(i), rows, op_view::width(v.out(i)), v.out(i).dtype());
  check_attributes(v, a);
  check_states(v, a, rows);
}

}  // namespace troupe::program
