// Programs with native ops: what the verifier says without their module, and what the module's ops say of them.
#include "kernel/program/native_ops.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <functional>
#include <limits>

#include "kernel/program/print.hpp"
#include "tests/support/native_program.hpp"

namespace troupe::program {
namespace {

using test::make_native_program;
using test::tally_ops;
using test::tiny_program;
using testing::HasSubstr;

verified_program verified(const ProgramT& program) {
  auto out = verify(tiny_program::bytes(program));
  if (!out) throw std::runtime_error(out.error().text);
  return *out;
}
NativeAttrsT& attrs_of(ProgramT& p) {
  return *p.ops[1]->attrs.AsNativeAttrs();
}

TEST(NativeOps, AreAcceptedAsTheirModuleDeclaresThem) {
  const auto p = verified(make_native_program());
  EXPECT_TRUE(has_native_ops(*p));
  const auto ok = check_native_ops(*p, tally_ops());
  EXPECT_TRUE(ok) << ok.error().text;
}

TEST(NativeOps, NeedNoModuleWhereThereAreNone) {
  const auto p = verified(tiny_program::make());
  EXPECT_FALSE(has_native_ops(*p));
  EXPECT_TRUE(check_native_ops(*p, {}));
}

TEST(NativeOps, CountStateBytesPerSequenceAndShowThem) {
  const auto p = verified(make_native_program());
  EXPECT_EQ(state_bytes_per_sequence(*p), (16u + 1) * 4);
  EXPECT_EQ(state_bytes_per_sequence(*verified(tiny_program::make())), 0u);
  const auto text = print(*p);
  EXPECT_THAT(text, HasSubstr("state per sequence 68 B"));
  EXPECT_THAT(text, HasSubstr("sums  recurrent, 1 layers, [16]"));
  EXPECT_THAT(text, HasSubstr("norm_1; tally version 2, factor 0.25, state sums, state rows"));
  EXPECT_THAT(print(*verified(tiny_program::make())), testing::Not(HasSubstr("state per sequence")));
}

TEST(NativeOps, StandInTheJsonWithTheirAttributesAndStates) {
  const auto root = boost::json::parse(print_json(*verified(make_native_program()))).as_object();
  EXPECT_EQ(root.at("facts").at("state_bytes_per_sequence").to_number<int>(), 68);
  const auto& attributes = root.at("ops").at(1).at("attributes");
  EXPECT_EQ(attributes.at("op").as_string(), "tally");
  EXPECT_EQ(attributes.at("version").to_number<int>(), 2);
  EXPECT_EQ(attributes.at("attributes").at("factor").to_number<double>(), 0.25);
  EXPECT_EQ(attributes.at("states").at(1).at("cache").to_number<int>(), 2);
}

struct refusal_case {
  const char* name;
  std::function<void(ProgramT&)> spoil;
  const char* text;
};
void PrintTo(const refusal_case& c, std::ostream* out) {
  *out << c.name;
}

// Wrong whatever the module says.
class NativeStructure : public testing::TestWithParam<refusal_case> {};

TEST_P(NativeStructure, NamesWhatIsWrong) {
  auto program = make_native_program();
  GetParam().spoil(program);
  const auto refused = verify(tiny_program::bytes(program));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_program);
  EXPECT_THAT(refused.error().text, HasSubstr(GetParam().text));
}

const refusal_case structure_cases[] = {
    {"NoAttributes", [](ProgramT& p) { p.ops[1]->attrs.Reset(); },
     "op 1 (native, layers.0): attrs: expected NativeAttrs, found none"},
    {"OtherAttributes", [](ProgramT& p) { p.ops[1]->attrs.Set(NormAttrsT()); },
     "attrs: expected NativeAttrs, found NormAttrs"},
    {"Name", [](ProgramT& p) { attrs_of(p).op = "a b"; }, "op: expected 1 to 512 printable"},
    {"Version", [](ProgramT& p) { attrs_of(p).version = 0; }, "version: expected 1 to"},
    {"ManyInputs", [](ProgramT& p) { p.ops[1]->inputs.assign(33, 0); }, "expected 0 to 32 inputs, found 33"},
    {"NoOutputs", [](ProgramT& p) { p.ops[1]->outputs.clear(); }, "expected 1 to 32 outputs, found 0"},
    {"ManyWeights", [](ProgramT& p) { p.ops[1]->weights.assign(33, 1); },
     "expected 0 to 32 weights, found 33"},
    {"InputOfLogitRows", [](ProgramT& p) { p.tensors[p.ops[1]->outputs[0]]->rows = Rows::logit_rows; },
     "input: expected [R, 16] f32, found [T, 16] f32"},
    {"CacheOfAttention", [](ProgramT& p) { p.ops[1]->cache = 1; }, "cache: expected -1, found 1"},
    {"AttributeTwice",
     [](ProgramT& p) {
       attrs_of(p).attributes.push_back(std::make_unique<AttributeT>(*attrs_of(p).attributes[0]));
     },
     "attribute factor comes twice"},
    {"AttributeWithoutName", [](ProgramT& p) { attrs_of(p).attributes[0]->name.clear(); },
     "attribute: expected"},
    {"AttributeNotFinite",
     [](ProgramT& p) { attrs_of(p).attributes[0]->value = std::numeric_limits<double>::infinity(); },
     "attribute factor: expected a finite number, found inf"},
    {"StateOfNoCache", [](ProgramT& p) { attrs_of(p).states[0]->cache = 9; },
     "state 0: expected a recurrent cache, found 9"},
    {"StateOfPagedCache", [](ProgramT& p) { attrs_of(p).states[0]->cache = 0; },
     "state 0: expected a recurrent cache, found 0"},
    {"StateLayer", [](ProgramT& p) { attrs_of(p).states[0]->layer = 1; },
     "layer of cache sums: expected 0 to 0, found 1"},
    {"StateTwice", [](ProgramT& p) { attrs_of(p).states[1]->cache = 1; },
     "layer 0 of cache sums is written by an earlier op"},
    {"StateUnused", [](ProgramT& p) { attrs_of(p).states.pop_back(); },
     "cache 2 (rows): layer 0: expected one op that writes it, found none"},
    {"RecurrentCacheOfAttention", [](ProgramT& p) { p.ops[7]->cache = 1; },
     "cache sums: expected paged_kv of 2 heads x 4, found recurrent"},
};
INSTANTIATE_TEST_SUITE_P(All, NativeStructure, testing::ValuesIn(structure_cases),
                         [](const auto& i) { return i.param.name; });

// Well formed, but not what the op takes.
class NativeUse : public testing::TestWithParam<refusal_case> {};

TEST_P(NativeUse, IsRefusedByTheOp) {
  auto program = make_native_program();
  GetParam().spoil(program);
  const auto p = verified(program);
  const auto refused = check_native_ops(*p, tally_ops());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_program);
  EXPECT_THAT(refused.error().text, HasSubstr(GetParam().text));
}

const refusal_case use_cases[] = {
    {"UnknownOp", [](ProgramT& p) { attrs_of(p).op = "telly"; },
     "op 1 (native telly, layers.0): expected a native op of the module in version 2; it has: tally version "
     "2"},
    {"UnknownVersion", [](ProgramT& p) { attrs_of(p).version = 1; },
     "expected a native op of the module in version 1; it has: tally version 2"},
    {"Inputs", [](ProgramT& p) { p.ops[1]->inputs.push_back(0); }, "expected 1 inputs, found 2"},
    {"Weights",
     [](ProgramT& p) {
       p.ops[1]->weights.push_back(p.ops[1]->weights[0]);
       p.ops[1]->weights.push_back(p.ops[1]->weights[0]);
     },
     "expected 1 to 2 weights, found 3"},
    {"States",
     [](ProgramT& p) {
       attrs_of(p).states.pop_back();
       p.caches.pop_back();
     },
     "expected 2 states, found 1"},
    {"WeightShape",
     [](ProgramT& p) {
       p.weights[1]->shape = {4, 4};
     },
     "w: expected [16], found [4, 4]"},
    {"StateShape",
     [](ProgramT& p) {
       p.caches[1]->shape = {4, 4};
     },
     "sum: expected [16], found [4, 4]"},
    {"AttributeMissing", [](ProgramT& p) { attrs_of(p).attributes.clear(); },
     "op 1 (native tally, layers.0): attribute factor is missing"},
};
INSTANTIATE_TEST_SUITE_P(All, NativeUse, testing::ValuesIn(use_cases),
                         [](const auto& i) { return i.param.name; });

// The tiny Program's last op, the logits, as an op of the test's own.
struct last_op {
  static result<void> check(troupe_status (*shapes)(const troupe_native_use*),
                            troupe_dtype dtype = TROUPE_F32) {
    auto program = tiny_program::make();
    auto& op = *program.ops.back();
    op.kind = OpKind::native;
    NativeAttrsT attrs;
    attrs.op = "last";
    op.attrs.Set(std::move(attrs));
    static const troupe_native_value weight = {"w", TROUPE_NONE, 0};
    const troupe_native_value value = {"x", dtype, 0}, output = {"y", TROUPE_F32, 0};
    troupe_native_op table = {};
    table.version = 1;
    table.name = "last";
    table.inputs = &value;
    table.outputs = &output;
    table.weights = &weight;
    table.input_count = table.output_count = table.weight_count = 1;
    table.shapes = shapes;
    return check_native_ops(*verified(program), native_ops({&table}, nullptr));
  }
};

TEST(NativeOps, MayCountLogitRows) {
  const auto ok = last_op::check([](const troupe_native_use* use) -> troupe_status {
    EXPECT_EQ(use->rows_of, static_cast<std::uint32_t>(TROUPE_LOGIT_ROWS));
    EXPECT_EQ(use->weights[0].dtype, static_cast<troupe_dtype>(TROUPE_NONE));
    EXPECT_EQ(use->inputs[0].shape[0], 0u);
    use->outputs[0] = {TROUPE_F32, 2, {0, use->weights[0].shape[0], 1, 1}, nullptr};
    return TROUPE_OK;
  });
  EXPECT_TRUE(ok) << ok.error().text;
}

TEST(NativeOps, AreRefusedWhenTheOpGivesAnotherOutput) {
  const auto wrong = last_op::check([](const troupe_native_use* use) -> troupe_status {
    use->outputs[0] = {TROUPE_F32, 2, {0, 7, 1, 1}, nullptr};
    return TROUPE_OK;
  });
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().text,
              HasSubstr("(native last): output y: the op gives [R, 7] f32, the Program says [R, 32] f32"));
  const auto silent = last_op::check([](const troupe_native_use*) -> troupe_status { return TROUPE_OK; });
  ASSERT_FALSE(silent) << "what the op does not fill in does not pass for the Program's own";
}

TEST(NativeOps, AreRefusedWhenADtypeIsNotTheDeclaredOne) {
  const auto refused =
      last_op::check([](const troupe_native_use*) -> troupe_status { return TROUPE_OK; }, TROUPE_I32);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("input x: expected i32, found f32"));
}

TEST(NativeOps, AreRefusedWhenTheOpThrowsOrIsSilent) {
  const auto thrown =
      last_op::check([](const troupe_native_use*) -> troupe_status { throw std::runtime_error("oops"); });
  ASSERT_FALSE(thrown);
  EXPECT_THAT(thrown.error().text, HasSubstr("an exception crossed the interface: oops"));
  const auto silent = last_op::check([](const troupe_native_use*) -> troupe_status { return 77; });
  ASSERT_FALSE(silent);
  EXPECT_THAT(silent.error().text, HasSubstr("refuses its operands without a reason"));
}

}  // namespace
}  // namespace troupe::program
