// Native ops for tests, and the tiny Program with one of them.
#pragma once

#include <troupe/sdk/native_op.hpp>

#include "kernel/program/native_ops.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::test {

// y = factor · w * (sum of the sequence's x so far); counts the rows that it has seen in a second state.
struct tally {
  static constexpr const char* name = "tally";
  static constexpr std::uint32_t version = 2;
  static constexpr const char* summary = "sums up what a sequence has brought so far";
  static constexpr sdk::native_value inputs[] = {{"x"}}, outputs[] = {{"y"}},
                                     weights[] = {{"w"}, {"offset", TROUPE_NONE, true}},
                                     states[] = {{"sum"}, {"rows"}};

  static void shapes(sdk::native_shapes& s) {
    s.expect_weight("w", 0, {s.columns(0)});
    if (s.weights() > 1) s.expect_weight("offset", 1, {s.columns(0)});
    s.expect_state("sum", 0, {s.columns(0)});
    s.expect_state("rows", 1, {1});
    s.number("factor");
    s.output(0, s.columns(0));
  }
  static std::uint64_t workspace(const sdk::native_use& use, std::uint64_t, std::uint32_t, std::uint32_t) {
    return use.columns(0) * sizeof(float);
  }
  static void cpu(const sdk::native_step& s) {
    const std::size_t n = s.columns(0);
    const auto factor = static_cast<float>(s.number("factor"));
    auto* weight = s.workspace<float>();
    sdk::read_weight(s.weight(0), 0, 0, n, weight);
    s.parallel_for(s.sequences(), 1, [&](std::size_t begin, std::size_t end, unsigned) {
      for (std::size_t q = begin; q < end; ++q)
        for (std::size_t t = s.first_row(q); t < s.end_row(q); ++t) {
          for (std::size_t i = 0; i < n; ++i) {
            s.state(0, q)[i] += s.input(0, t)[i];
            s.output(0, t)[i] = factor * weight[i] * s.state(0, q)[i];
          }
          s.state(1, q)[0] += 1;
        }
    });
  }
};

inline program::native_ops tally_ops() {
  return {{&sdk::native_op<tally>()}, nullptr};
}

// The tiny Program whose first norm is replaced by `tally`: op 1, with the caches "sums" and "rows" of one layer.
inline program::ProgramT make_native_program() {
  auto p = tiny_program::make();
  p.version_minor = 1;
  const auto cache = [&](const char* name, std::uint64_t width) {
    auto c = std::make_unique<program::CacheT>();
    c->name = name;
    c->kind = program::CacheKind::recurrent;
    c->layers = 1;
    c->shape = {width};
    p.caches.push_back(std::move(c));
  };
  cache("sums", tiny_program::hidden);
  cache("rows", 1);
  auto& op = *p.ops[1];
  op.kind = program::OpKind::native;
  program::NativeAttrsT attrs;
  attrs.op = tally::name;
  attrs.version = tally::version;
  attrs.attributes.push_back(std::make_unique<program::AttributeT>());
  attrs.attributes[0]->name = "factor";
  attrs.attributes[0]->value = 0.25;
  for (std::uint32_t i = 1; i <= 2; ++i) {
    attrs.states.push_back(std::make_unique<program::StateUseT>());
    attrs.states.back()->cache = i;
  }
  op.attrs.Set(std::move(attrs));
  return p;
}

}  // namespace troupe::test
