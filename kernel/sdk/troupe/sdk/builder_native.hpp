// Part of builder.hpp: native ops, whose shapes the op itself is asked for.
#pragma once

#include <memory>
#include <troupe/sdk/builder.hpp>
#include <utility>
#include <vector>

namespace troupe::sdk {

inline std::vector<tensor_ref> builder::native(const troupe_native_op& which,
                                               const std::vector<tensor_ref>& inputs,
                                               const std::vector<weight_ref>& weights,
                                               const std::vector<state_ref>& states,
                                               const std::vector<attribute>& attributes) {
  const auto what = inputs.empty() ? program::Rows::tokens : rows(inputs[0]);
  const auto outputs = native_outputs(which, what, inputs, weights, states, attributes);
  if (program_.ops.size() >= max_parts) fail("op", "more than " + std::to_string(max_parts) + " in all");
  program::NativeAttrsT attrs;
  attrs.op = which.name;
  attrs.version = which.version;
  for (const auto& one : attributes) {
    attrs.attributes.push_back(std::make_unique<program::AttributeT>());
    attrs.attributes.back()->name = one.name;
    attrs.attributes.back()->value = one.value;
  }
  for (const auto& one : states) {
    attrs.states.push_back(std::make_unique<program::StateUseT>());
    attrs.states.back()->cache = static_cast<std::uint32_t>(one.cache.id);
    attrs.states.back()->layer = one.layer;
  }
  auto o = std::make_unique<program::OpT>();
  o->kind = program::OpKind::native;
  o->scope = scope_;
  std::vector<tensor_ref> results;
  for (const auto x : inputs) o->inputs.push_back(x.id);
  for (const auto w : weights) o->weights.push_back(w.id);
  for (const auto& y : outputs) {
    results.push_back(tensor(what, y.shape[1], static_cast<program::DType>(y.dtype)));
    o->outputs.push_back(results.back().id);
  }
  o->attrs.Set(std::move(attrs));
  program_.ops.push_back(std::move(o));
  return results;
}

// Asks the op itself, as Troupe's verifier will.
inline std::vector<troupe_tensor> builder::native_outputs(const troupe_native_op& which, program::Rows what,
                                                          const std::vector<tensor_ref>& inputs,
                                                          const std::vector<weight_ref>& weights,
                                                          const std::vector<state_ref>& states,
                                                          const std::vector<attribute>& attributes) {
  shape_query query;
  for (const auto x : inputs) query.input(columns(x), at(x).dtype);
  for (const auto w : weights) query.weight(use(w, program::WeightRole::other, false).shape);
  for (const auto& one : states) {
    if (one.cache.id < 0 || static_cast<std::size_t>(one.cache.id) >= program_.caches.size())
      fail(which.name, "a state of another builder");
    query.state(program_.caches[static_cast<std::size_t>(one.cache.id)]->shape);
  }
  for (const auto& one : attributes) query.attribute(one.name, one.value);
  try {
    return query.ask(which, what);
  } catch (const native_error& e) {
    fail(which.name, e.what());
  }
}

}  // namespace troupe::sdk
