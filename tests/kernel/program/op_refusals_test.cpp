// Spoiled Programs, as in refusals_test.cpp, for the ops that the tiny Program does not have.
#include <gmock/gmock.h>

#include <functional>
#include <limits>
#include <set>

#include "kernel/program/print.hpp"
#include "kernel/program/program.hpp"
#include "tests/support/every_op.hpp"

namespace troupe::program {
namespace {

using test::every_op;
using testing::HasSubstr;

OpT& find_op(ProgramT& p, OpKind kind) {
  for (auto& op : p.ops)
    if (op->kind == kind) return *op;
  throw std::logic_error("no such op");
}
TensorT& output_of(ProgramT& p, OpKind kind, std::size_t i = 0) {
  return *p.tensors[find_op(p, kind).outputs[i]];
}
WeightT& find_weight(ProgramT& p, const std::string& name) {
  for (auto& weight : p.weights)
    if (weight->name == name) return *weight;
  throw std::logic_error("no such weight");
}

result<verified_program> verified(const ProgramT& p) {
  return verify(test::tiny_program::bytes(p));
}

TEST(EveryOp, IsAcceptedAndUsesEveryKindOfTheSchema) {
  const auto program = every_op::make();
  const auto accepted = verified(program);
  ASSERT_TRUE(accepted) << accepted.error().text;
  std::set<OpKind> used;
  for (const auto& op : program.ops) used.insert(op->kind);
  for (const auto kind : EnumValuesOpKind()) {
    if (kind != OpKind::none && kind != OpKind::native) {  // native_ops_test.cpp has those
      EXPECT_TRUE(used.count(kind)) << EnumNameOpKind(kind);
    }
  }
}

TEST(EveryOp, IsPrintedWithTheAttributesThatSayMoreThanTheirDefaults) {
  const auto accepted = verified(every_op::make());
  ASSERT_TRUE(accepted);
  const auto text = print(**accepted);
  EXPECT_THAT(text, HasSubstr("clamp"));
  EXPECT_THAT(text, HasSubstr("min -2, max 3\n"));
  EXPECT_THAT(text, HasSubstr("q_norm; eps 1e-06, group 4\n"));
  EXPECT_THAT(text, HasSubstr("[T, 32] -> [T, 16], [T, 8], [T, 8]"));
  EXPECT_THAT(text, HasSubstr("experts 4, top_k 2, score softmax, norm sum, norm_power 2, scale 1.5\n"));
  EXPECT_THAT(text, HasSubstr("activation gelu_tanh"));
  EXPECT_THAT(text, HasSubstr("layout half, frequencies 2 from 0.5 to 0.02, #"));
  EXPECT_THAT(text, HasSubstr(", amplitude 1.25\n"));
  EXPECT_THAT(text, HasSubstr("scale 0.5, soft_cap 5, cache kv\n"));
  const auto json = print_json(**accepted);
  EXPECT_THAT(json, HasSubstr("\"attributes\":{\"min\":-2E0,\"max\":3E0}"));
  EXPECT_THAT(json, HasSubstr("\"attributes\":{\"activation\":\"relu\"}"));
  EXPECT_THAT(json, HasSubstr("\"frequencies\":[5E-1,"));
}

TEST(EveryOp, LayersOfOtherFrequenciesAreNotAlike) {
  auto program = test::tiny_program::make();
  const auto fold = [&] { return print(**verified(program)); };
  for (auto& op : program.ops)
    if (op->kind == OpKind::rope) op->attrs.AsRopeAttrs()->frequencies = {0.5f, 0.25f};
  EXPECT_THAT(fold(), HasSubstr("2 alike"));
  program.ops[2 + 14 + 1]->attrs.AsRopeAttrs()->frequencies = {0.5f, 0.2500001f};
  EXPECT_THAT(fold(), testing::Not(HasSubstr("alike")));
}

TEST(EveryOp, CountsTheWeightsOfANormedGroupOnceAndMatricesAsActive) {
  const auto accepted = verified(every_op::make());
  ASSERT_TRUE(accepted);
  const std::uint64_t vectors = 2 * 16 + 32 + 2 * 4 + 16 + 16, attention = 32 * 16,
                      dense = 3 * 24 * 16 + 32 * 16, router = 4 * 16, expert = 3 * 8 * 16, head = 32 * 16;
  const auto counts = count_parameters(**accepted);
  EXPECT_EQ(counts.total, 32 * 16 + vectors + attention + dense + router + 4 * expert + head);
  EXPECT_EQ(counts.active, attention + dense + router + 2 * expert + head);
}

struct refusal_case {
  const char* name;
  std::function<void(ProgramT&)> spoil;
  const char* text;
};
void PrintTo(const refusal_case& c, std::ostream* out) {
  *out << c.name;
}

class OpRefusal : public testing::TestWithParam<refusal_case> {};

TEST_P(OpRefusal, NamesWhatIsWrong) {
  auto program = every_op::make();
  GetParam().spoil(program);
  const auto refused = verified(program);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_program);
  EXPECT_THAT(refused.error().text, HasSubstr(GetParam().text));
}

const float nan = std::numeric_limits<float>::quiet_NaN();
const float infinity = std::numeric_limits<float>::infinity();

const refusal_case cases[] = {
    {"LayerNormWeight", [](ProgramT& p) { find_weight(p, "layers.0.norm_1").shape = {8}; },
     "(layer_norm, layers.0): weight layers.0.norm_1: expected [16], found [8]"},
    {"LayerNormBias", [](ProgramT& p) { find_weight(p, "layers.0.norm_1_bias").shape = {8}; },
     "bias layers.0.norm_1_bias: expected [16], found [8]"},
    {"LayerNormEps", [](ProgramT& p) { find_op(p, OpKind::layer_norm).attrs.AsNormAttrs()->eps = 0; },
     "eps: expected a number above 0, found 0"},
    {"LayerNormOutput", [](ProgramT& p) { output_of(p, OpKind::layer_norm).shape = {15}; },
     "output: expected [T, 16] f32, found [T, 15] f32"},
    {"NormGroup", [](ProgramT& p) { find_op(p, OpKind::rms_norm).attrs.AsNormAttrs()->group = 5; },
     "(rms_norm, layers.0): group: expected a divisor of 16 columns, found 5"},
    {"NormGroupTooWide",
     [](ProgramT& p) { find_op(p, OpKind::rms_norm).attrs.AsNormAttrs()->group = 0xffffffff; },
     "group: expected a divisor of 16 columns, found 4294967295"},
    {"NormGroupWeight", [](ProgramT& p) { find_op(p, OpKind::rms_norm).attrs.AsNormAttrs()->group = 8; },
     "weight layers.0.q_norm: expected [8], found [4]"},
    {"ClampBackwards", [](ProgramT& p) { find_op(p, OpKind::clamp).attrs.AsClampAttrs()->min = 4; },
     "(clamp, layers.0): min: expected at most max 3, found 4"},
    {"ClampNan", [](ProgramT& p) { find_op(p, OpKind::clamp).attrs.AsClampAttrs()->min = nan; },
     "min: expected a finite number, found nan"},
    {"ClampInfinity", [](ProgramT& p) { find_op(p, OpKind::clamp).attrs.AsClampAttrs()->max = infinity; },
     "max: expected a finite number, found inf"},
    {"ClampOutput", [](ProgramT& p) { output_of(p, OpKind::clamp).rows = Rows::logit_rows; },
     "output: expected [T, 32] f32, found [R, 32] f32"},
    {"MulShapes",
     [](ProgramT& p) { find_op(p, OpKind::mul).inputs[1] = find_op(p, OpKind::split).outputs[1]; },
     "(mul, layers.0): b: expected [T, 16] f32, found [T, 8] f32"},
    {"ActivationKind",
     [](ProgramT& p) {
       find_op(p, OpKind::activation).attrs.AsActivationAttrs()->activation = static_cast<Activation>(4);
     },
     "(activation, layers.0): activation: expected 0 to 3, found 4"},
    {"ActivationFactor",
     [](ProgramT& p) { find_op(p, OpKind::activation).inputs[1] = find_op(p, OpKind::embed).outputs[0]; },
     "factor: expected [T, 24] f32, found [T, 16] f32"},
    {"ActivationOfThree",
     [](ProgramT& p) {
       find_op(p, OpKind::activation).inputs = {0, 0, 0};
     },
     "expected 1 to 2 inputs, found 3"},
    {"SplitSum", [](ProgramT& p) { output_of(p, OpKind::split, 1).shape = {9}; },
     "(split, layers.0): outputs: expected 32 columns in all, found 33"},
    {"SplitRows", [](ProgramT& p) { output_of(p, OpKind::split, 2).rows = Rows::logit_rows; },
     "output 2: expected [T, 8] f32, found [R, 8] f32"},
    {"SplitDtype", [](ProgramT& p) { output_of(p, OpKind::split, 1).dtype = DType::i32; },
     "output 1: expected [T, 8] f32, found [T, 8] i32"},
    {"SplitIntoOne", [](ProgramT& p) { find_op(p, OpKind::split).outputs.resize(1); },
     "expected 2 to 64 outputs, found 1"},
    {"ConcatSum", [](ProgramT& p) { output_of(p, OpKind::concat).shape = {31}; },
     "(concat, layers.0): output: expected [T, 32] f32, found [T, 31] f32"},
    {"ConcatOfOne", [](ProgramT& p) { find_op(p, OpKind::concat).inputs.resize(1); },
     "expected 2 to 64 inputs, found 1"},
    {"RopeFrequencyCount",
     [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->frequencies.push_back(1); },
     "(rope, layers.0): frequencies: expected 2, half of rotary_dim, found 3"},
    {"RopeFrequency",
     [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->frequencies[1] = infinity; },
     "frequencies: expected a number above 0, found inf"},
    {"RopeAmplitude", [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->amplitude = nan; },
     "amplitude: expected a number above 0, found nan"},
    {"AttentionCap",
     [](ProgramT& p) { find_op(p, OpKind::attention).attrs.AsAttentionAttrs()->soft_cap = -1; },
     "(attention, layers.0): soft_cap: expected a number above 0, found -1"},
    {"RouterPower", [](ProgramT& p) { find_op(p, OpKind::router).attrs.AsRouterAttrs()->norm_power = 0; },
     "norm_power: expected a number above 0, found 0"},
    {"RouterScale", [](ProgramT& p) { find_op(p, OpKind::router).attrs.AsRouterAttrs()->scale = nan; },
     "scale: expected a number above 0, found nan"},
};
INSTANTIATE_TEST_SUITE_P(Ops, OpRefusal, testing::ValuesIn(cases),
                         [](const auto& i) { return i.param.name; });

}  // namespace
}  // namespace troupe::program
