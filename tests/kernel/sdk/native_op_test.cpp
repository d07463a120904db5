#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <functional>
#include <troupe/sdk/builder.hpp>
#include <troupe/sdk/native_op.hpp>

#include "kernel/program/native_ops.hpp"
#include "tests/support/native_program.hpp"

namespace troupe::sdk {
namespace {

using test::tally;
using testing::HasSubstr;

TEST(NativeOp, FillsInTheTable) {
  const auto& op = native_op<tally>();
  EXPECT_EQ(&op, &native_op<tally>());
  EXPECT_EQ(op.struct_size, sizeof(troupe_native_op));
  EXPECT_EQ(op.version, 2u);
  EXPECT_STREQ(op.name, "tally");
  ASSERT_EQ(op.input_count, 1u);
  EXPECT_STREQ(op.inputs[0].name, "x");
  EXPECT_EQ(op.inputs[0].dtype, static_cast<troupe_dtype>(TROUPE_F32));
  ASSERT_EQ(op.weight_count, 2u);
  EXPECT_EQ(op.weights[0].is_optional, 0u);
  EXPECT_EQ(op.weights[1].is_optional, 1u);
  ASSERT_EQ(op.state_count, 2u);
  EXPECT_STREQ(op.states[1].name, "rows");
  EXPECT_EQ(op.cuda, nullptr);
}

TEST(NativeOp, ListEndsInNull) {
  EXPECT_EQ(native_op_list<>::table()[0], nullptr);
  EXPECT_EQ(native_op_list<tally>::table()[0], &native_op<tally>());
  EXPECT_EQ(native_op_list<tally>::table()[1], nullptr);
}

struct throws {
  static constexpr const char* name = "throws";
  static constexpr std::uint32_t version = 1;
  static constexpr const char* summary = "for tests";
  static constexpr native_value outputs[] = {{"y"}};
  static void shapes(native_shapes&) { throw native_error("not this way"); }
  static void cpu(const native_step&) { throw 7; }
};

struct throws_at_workspace : throws {
  static std::uint64_t workspace(const native_use&, std::uint64_t, std::uint32_t, std::uint32_t) {
    throw native_error("no room for it");
  }
};

TEST(NativeOp, TurnsExceptionsIntoTheUsesText) {
  std::string text;
  troupe_native_use use = {};
  use.context = &text;
  use.fail = [](void* context, const char* why) -> troupe_status {
    *static_cast<std::string*>(context) = why;
    return TROUPE_FAILED;
  };
  const auto& op = native_op<throws>();
  EXPECT_EQ(op.shapes(&use), TROUPE_FAILED);
  EXPECT_EQ(text, "not this way");
  const troupe_native_step step = {};
  EXPECT_EQ(op.cpu(&use, &step), TROUPE_FAILED);
  EXPECT_EQ(text, "an exception that is not a std::exception");
  EXPECT_EQ(op.workspace(&use, 1, 1, 1), 0u);
  EXPECT_EQ(native_op<throws_at_workspace>().workspace(&use, 1, 1, 1), TROUPE_NO_WORKSPACE);
  EXPECT_EQ(text, "no room for it");
}

TEST(NativeOp, ReadsWeightsOfEveryDtype) {
  const float numbers[] = {1, -2.5f};
  const std::uint16_t bf16[] = {0x3f80, 0xc020}, f16[] = {0x3c00, 0xc100, 0x0001, 0x8000, 0x7c00};
  const auto read = [](troupe_dtype dtype, const void* data, std::size_t first, std::size_t count) {
    troupe_weight weight = {};
    weight.dtype = dtype;
    weight.planes = &data;
    std::vector<float> out(count);
    read_weight(weight, 0, first, count, out.data());
    return out;
  };
  EXPECT_THAT(read(TROUPE_F32, numbers, 0, 2), testing::ElementsAre(1, -2.5f));
  EXPECT_THAT(read(TROUPE_BF16, bf16, 0, 2), testing::ElementsAre(1, -2.5f));
  EXPECT_THAT(read(TROUPE_BF16, bf16, 1, 1), testing::ElementsAre(-2.5f));
  const auto half = read(TROUPE_F16, f16, 0, 5);
  EXPECT_EQ(half[1], -2.5f);
  EXPECT_EQ(half[2], 0x1p-24f);
  EXPECT_TRUE(half[3] == 0 && std::signbit(half[3]));
  EXPECT_TRUE(std::isinf(half[4]));
}

// embed -> tally -> logits
void build_tally(builder& b, const std::vector<attribute>& attributes, const shape& sum = {16}) {
  b.facts({.architecture = "A", .vocabulary = 32, .hidden = 16, .layers = 1, .context_tokens = 64});
  const auto sums = b.recurrent_cache("sums", {.layers = 1, .dimensions = sum});
  const auto rows = b.recurrent_cache("rows", {.layers = 1, .dimensions = {1}});
  const auto x = b.embed(b.weight("embed", {32, 16}));
  const auto layer = b.scope("layers", 0);
  const auto y = b.native<tally>({x}, {layer.weight("w", {16})}, {{sums, 0}, {rows, 0}}, attributes);
  b.logits(b.linear(b.select_rows(y[0]), b.weight("head", {32, 16})));
}

TEST(BuilderNative, BuildsAnOpThatVerifierAndModuleAccept) {
  builder b;
  build_tally(b, {{"factor", 2}});
  const auto bytes = b.finish();
  const auto p = program::verify({bytes.data(), bytes.size()});
  ASSERT_TRUE(p) << p.error().text;
  EXPECT_EQ((*p)->version_minor(), program_version_minor);
  const auto ok = program::check_native_ops(**p, test::tally_ops());
  EXPECT_TRUE(ok) << ok.error().text;
  const auto* attrs = (*p)->ops()->Get(1)->attrs_as_NativeAttrs();
  EXPECT_EQ(attrs->attributes()->Get(0)->value(), 2);
  EXPECT_EQ(attrs->states()->Get(1)->cache(), 1u);
  EXPECT_FALSE((*p)->weights()->Get(1)->quantizable());
}

std::string error_of(const std::function<void(builder&)>& build) {
  builder b;
  try {
    build(b);
  } catch (const program_error& e) {
    return e.what();
  }
  return "no error";
}

TEST(BuilderNative, TellsTheScopeTheOpAndItsOwnWords) {
  EXPECT_EQ(error_of([](builder& b) { build_tally(b, {}); }), "layers.0: tally: attribute factor is missing");
  EXPECT_EQ(error_of([](builder& b) {
              build_tally(b, {{"factor", 1}}, {4, 4});
            }),
            "layers.0: tally: sum: expected [16], found [4, 4]");
}

TEST(BuilderNative, CountsOperands) {
  const auto count = [](std::size_t inputs, std::size_t weights, std::size_t states) {
    return error_of([=](builder& b) {
      const auto x = b.embed(b.weight("embed", {32, 16}));
      const auto w = b.weight("w", {16});
      const auto cache = b.recurrent_cache("sums", {.layers = 3, .dimensions = {16}});
      b.native<tally>(std::vector(inputs, x), std::vector(weights, w),
                      std::vector(states, state_ref{cache, 0}), {{"factor", 1}});
    });
  };
  EXPECT_THAT(count(2, 1, 2), HasSubstr("tally: expected 1 inputs, found 2"));
  EXPECT_THAT(count(1, 0, 2), HasSubstr("tally: expected 1 to 2 weights, found 0"));
  EXPECT_THAT(count(1, 1, 1), HasSubstr("tally: expected 2 states, found 1"));
  EXPECT_THAT(error_of([](builder& b) {
                const auto x = b.embed(b.weight("embed", {32, 16}));
                b.native<tally>({x}, {b.weight("w", {16})}, {{{7}, 0}, {{7}, 0}}, {{"factor", 1}});
              }),
              HasSubstr("tally: a state of another builder"));
}

}  // namespace
}  // namespace troupe::sdk
