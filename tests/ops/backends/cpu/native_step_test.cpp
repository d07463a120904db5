// Native ops on the CPU backend: operands, weights, state slots and errors, with an op of the test's own.
#include <gmock/gmock.h>

#include <cmath>

#include "ops/backends/cpu/cpu_backend.hpp"
#include "ops/backends/cpu/state_slots.hpp"
#include "ops/device/tensor.hpp"
#include "tests/ops/support/tiny_model.hpp"
#include "tests/support/native_program.hpp"

namespace troupe::ops {
namespace {

using ::testing::HasSubstr;
using tiny = test::tiny_program;

constexpr std::uint64_t token_bytes = 2 * tiny::layers * tiny::kv_heads * tiny::head_dim * sizeof(float);

class NativeStep : public ::testing::TestWithParam<unsigned> {  // threads
 protected:
  void SetUp() override { load(source_with_probes(), test::tally_ops()); }

  // What goes into the op, and what comes out.
  static program::ProgramT source_with_probes() {
    auto source = test::make_native_program();
    const std::pair<const char*, std::uint32_t> wanted[] = {{"x", source.ops[1]->inputs[0]},
                                                            {"y", source.ops[1]->outputs[0]}};
    for (const auto& [name, tensor] : wanted) {
      source.probes.push_back(std::make_unique<program::ProbeT>());
      source.probes.back()->name = name;
      source.probes.back()->tensor = tensor;
    }
    return source;
  }

  result<std::unique_ptr<model>> try_load(const program::ProgramT& source, const program::native_ops& ops,
                                          std::uint32_t slots = 4) {
    files_ = std::make_unique<tiny_checkpoint>(source);
    const auto program = program::verify(tiny::bytes(source));
    EXPECT_TRUE(program) << (program ? "" : program.error().text);
    model_.reset();
    backend_ = std::move(*cpu::open({GetParam(), false, 64, 16 * token_bytes}));
    load_options options;
    options.native_ops = ops;
    options.state_slots = slots;
    return backend_->load(*program, files_->open(), options);
  }
  void load(const program::ProgramT& source, const program::native_ops& ops) {
    auto loaded = try_load(source, ops);
    ASSERT_TRUE(loaded) << loaded.error().text;
    model_ = std::move(*loaded);
  }
  std::vector<float> alone(const std::vector<std::int32_t>& tokens, std::size_t sequence = 0) {
    std::vector<feed> feeds{{sequence, tokens}};
    return tiny_sequences(*model_).step(feeds);
  }

  std::unique_ptr<tiny_checkpoint> files_;
  std::unique_ptr<backend> backend_;
  std::unique_ptr<model> model_;
};

INSTANTIATE_TEST_SUITE_P(Threads, NativeStep, ::testing::Values(1u, 3u),
                         [](const auto& test) { return std::to_string(test.param); });

TEST_P(NativeStep, SeesItsOperandsWeightsAttributesAndState) {
  std::vector<probe_request> probes{{"x", {}}, {"y", {}}};
  tiny_sequences(*model_).step({{0, {3, 1, 4}}, {1, {1, 5}}}, probes);
  const auto files = files_->open();
  const auto bytes = tiny::bytes(source_with_probes());
  const auto bound = *checkpoint::bind(*program::GetProgram(bytes.data())->weights()->Get(1), *files);
  const auto& x = probes[0].values;
  const auto& y = probes[1].values;
  ASSERT_EQ(y.size(), 5u * tiny::hidden);
  for (std::size_t i = 0; i < tiny::hidden; ++i) {
    float sum = 0;
    for (std::size_t t = 0; t < 5; ++t) {
      if (t == 3) sum = 0;  // the second sequence
      sum += x[t * tiny::hidden + i];
      EXPECT_EQ(y[t * tiny::hidden + i], 0.25f * load_element(bound.dtype, bound.planes[0], i) * sum);
    }
  }
}

TEST_P(NativeStep, TellsTheStateOfASequence) {
  EXPECT_EQ(model_->state_bytes(), (tiny::hidden + 1) * sizeof(float));
}

TEST_P(NativeStep, CarriesTheStateFromStepToStep) {
  const std::vector<std::int32_t> tokens{3, 1, 4, 1, 5, 9, 2, 6};
  const auto expected = alone(tokens);
  tiny_sequences cut(*model_);
  cut.step({{2, {3, 1, 4}}});
  cut.step({{2, {1}}, {1, {7, 7}}});
  cut.step({{1, {8}}, {2, {5, 9, 2}}});
  const auto last = cut.step({{2, {6}}});
  EXPECT_EQ(last, std::vector<float>(expected.end() - tiny::vocabulary, expected.end()));
}

TEST_P(NativeStep, BeginsASequenceWithZerosWhereverAnotherWas) {
  const auto expected = alone({1, 2, 3}, 3);
  alone({9, 9, 9, 9}, 3);
  EXPECT_EQ(alone({1, 2, 3}, 3), expected);
}

TEST_P(NativeStep, RefusesSlotsThatContradictTheBatch) {
  const std::vector<std::int32_t> tokens{1, 2}, positions{0, 0}, late{0, 3};
  const std::vector<std::uint32_t> starts{0, 1, 2}, first{0}, second{1}, rows{0, 1};
  const std::vector<std::span<const std::uint32_t>> tables{first, second};
  const auto refused = [&](std::span<const std::int32_t> at, const std::vector<std::uint32_t>& slots,
                           const char* text) {
    const auto ran = model_->run({tokens, at, starts, tables, rows, slots});
    ASSERT_FALSE(ran) << text;
    EXPECT_EQ(ran.error().code, error_code::internal);
    EXPECT_THAT(ran.error().text, HasSubstr(text));
  };
  refused(positions, {}, "2 sequences but 0 state slots");
  refused(positions, {0, 4}, "sequence 1 names state slot 4 of 4");
  refused(positions, {2, 2}, "sequence 1 names state slot 2 of 4, which another one has");
  refused(late, {0, 1}, "sequence 1 goes on at position 3, its state at 0");
}

TEST_P(NativeStep, NeedsTheModuleThatHasTheOp) {
  const auto refused = try_load(test::make_native_program(), {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_program);
  EXPECT_THAT(refused.error().text, HasSubstr("op 1 (native tally, layers.0)"));
}

TEST(StateSlots, MoreStateThanAddressesIsAConfigurationError) {
  for (const std::size_t floats : {std::size_t{1} << 40, std::size_t{1} << 60}) {
    const auto refused = cpu::state_slots::open(1u << 20, floats);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, error_code::bad_config);
    EXPECT_THAT(refused.error().text, HasSubstr("scheduler.max_sequences"));
  }
}

TEST(StateSlots, StandApartAndAligned) {
  const auto slots = cpu::state_slots::open(3, 17);
  ASSERT_TRUE(slots) << slots.error().text;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>((*slots)->slot(i)) % 64, 0u);
    std::fill_n((*slots)->slot(i), 17, static_cast<float>(i + 1));
  }
  (*slots)->clear(1);
  EXPECT_EQ((*slots)->slot(0)[16], 1);
  EXPECT_EQ((*slots)->slot(1)[16], 0);
  EXPECT_EQ((*slots)->slot(2)[0], 3);
}

// The first norm as an op whose body does something else when a step has more than one row.
struct moody {
  using body = decltype(troupe_native_op::cpu);

  static troupe_status fails(const troupe_native_use* use, const troupe_native_step* step) {
    return step->rows > 1 ? use->fail(use->context, "too many rows for me") : TROUPE_OK;
  }
  static troupe_status throws(const troupe_native_use*, const troupe_native_step* step) {
    return step->rows > 1 ? throw std::runtime_error("thrown") : TROUPE_OK;
  }
  static troupe_status throws_no_exception(const troupe_native_use*, const troupe_native_step* step) {
    return step->rows > 1 ? throw 42 : TROUPE_OK;
  }
  static troupe_status wants_memory(const troupe_native_use*, const troupe_native_step* step) {
    return step->rows > 1 ? throw std::bad_alloc() : TROUPE_OK;
  }

  static program::native_ops ops(body cpu) {
    static const troupe_native_value x = {"x", TROUPE_F32, 0}, w = {"w", TROUPE_NONE, 0};
    static troupe_native_op table = {};
    table.version = 1;
    table.name = "moody";
    table.inputs = table.outputs = &x;
    table.weights = &w;
    table.input_count = table.output_count = table.weight_count = 1;
    table.shapes = [](const troupe_native_use* use) -> troupe_status {
      use->outputs[0] = use->inputs[0];
      return TROUPE_OK;
    };
    table.cpu = cpu;
    return {{&table}, nullptr};
  }
  static program::ProgramT source() {
    auto p = tiny::make();
    p.ops[1]->kind = program::OpKind::native;
    program::NativeAttrsT attrs;
    attrs.op = "moody";
    p.ops[1]->attrs.Set(std::move(attrs));
    return p;
  }
};

TEST_P(NativeStep, EndsTheStepWithTheOpsOwnWords) {
  const std::vector<std::int32_t> tokens{1, 2}, positions{0, 1};
  const std::vector<std::uint32_t> starts{0, 2}, one{0, 1}, table{0}, rows;
  const std::vector<std::span<const std::uint32_t>> tables{table};
  const std::pair<moody::body, const char*> cases[] = {
      {&moody::fails, "too many rows for me"},
      {&moody::throws, "an exception crossed the interface: thrown"},
      {&moody::throws_no_exception, "an exception crossed the interface"},
      {&moody::wants_memory, "an exception crossed the interface: std::bad_alloc"}};
  for (const auto& [body, words] : cases) {
    load(moody::source(), moody::ops(body));
    EXPECT_TRUE(model_->run({std::span(tokens).first(1), std::span(positions).first(1), one, tables, rows}));
    const auto ran = model_->run({tokens, positions, starts, tables, rows});
    ASSERT_FALSE(ran) << words;
    EXPECT_EQ(ran.error().code, error_code::internal);
    EXPECT_EQ(ran.error().text, std::string("op 1 (native moody, layers.0): ") + words);
  }
}

// A workspace that cannot be had: told by the op, or of a size that no machine has.
TEST_P(NativeStep, RefusesAWorkspaceThatCannotBe) {
  using workspace = decltype(troupe_native_op::workspace);
  const workspace told = [](const troupe_native_use* use, std::uint64_t, std::uint32_t,
                            std::uint32_t) -> std::uint64_t {
    use->fail(use->context, "rows do not fit");
    return TROUPE_NO_WORKSPACE;
  };
  const workspace untold = [](const troupe_native_use*, std::uint64_t, std::uint32_t,
                              std::uint32_t) -> std::uint64_t { return TROUPE_NO_WORKSPACE; };
  const workspace huge = [](const troupe_native_use*, std::uint64_t rows, std::uint32_t,
                            std::uint32_t) -> std::uint64_t { return rows << 50; };
  const std::vector<std::int32_t> tokens{1}, positions{0};
  const std::vector<std::uint32_t> starts{0, 1}, blocks{0}, rows;
  const std::vector<std::span<const std::uint32_t>> tables{blocks};
  const auto refused = [&](workspace asks, const char* text) {
    auto table = *moody::ops(&moody::fails).all()[0];
    table.workspace = asks;
    load(moody::source(), program::native_ops({&table}, nullptr));
    const auto ran = model_->run({tokens, positions, starts, tables, rows});
    ASSERT_FALSE(ran) << text;
    EXPECT_EQ(ran.error().code, error_code::internal);
    EXPECT_THAT(ran.error().text, HasSubstr(std::string("op 1 (native moody, layers.0): ") + text));
  };
  refused(told, "its workspace: rows do not fit");
  refused(untold, "asks for a workspace of 18446744073709551615 bytes");
  refused(huge, "asks for a workspace of 1125899906842624 bytes");
}

// The output's matrix as a native op: each logit is the first number of its row.
TEST_P(NativeStep, MayWorkOnTheRowsWhoseLogitsAreWanted) {
  static const troupe_native_value x = {"x", TROUPE_F32, 0}, w = {"w", TROUPE_NONE, 0};
  troupe_native_op table = {};
  table.version = 1;
  table.name = "last";
  table.inputs = table.outputs = &x;
  table.weights = &w;
  table.input_count = table.output_count = table.weight_count = 1;
  table.shapes = [](const troupe_native_use* use) -> troupe_status {
    use->outputs[0] = use->inputs[0];
    use->outputs[0].shape[1] = use->weights[0].shape[0];
    return TROUPE_OK;
  };
  table.cpu = [](const troupe_native_use* use, const troupe_native_step* step) -> troupe_status {
    EXPECT_EQ(step->rows, 1u);
    EXPECT_EQ(step->sequences, 0u);
    for (std::size_t i = 0; i < tiny::vocabulary; ++i)
      static_cast<float*>(use->outputs[0].data)[i] = static_cast<const float*>(use->inputs[0].data)[0];
    return TROUPE_OK;
  };
  auto source = tiny::make();
  source.ops.back()->kind = program::OpKind::native;
  program::NativeAttrsT attrs;
  attrs.op = "last";
  source.ops.back()->attrs.Set(std::move(attrs));
  load(source, {{&table}, nullptr});
  const std::vector<std::int32_t> tokens{1, 2}, positions{0, 1};
  const std::vector<std::uint32_t> starts{0, 2}, blocks{0}, rows{1};
  const std::vector<std::span<const std::uint32_t>> tables{blocks};
  std::vector<probe_request> probes{{"hidden", {}}};
  ASSERT_TRUE(model_->run({tokens, positions, starts, tables, rows}, probes));
  std::vector<float> logits(tiny::vocabulary);
  model_->read_logits(logits);
  EXPECT_EQ(logits, std::vector<float>(tiny::vocabulary, probes[0].values[0]));
}

}  // namespace
}  // namespace troupe::ops
