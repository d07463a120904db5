// A table of spoiled Programs: each row changes one thing of a valid Program and names a part of the sentence
// that must come out. Ops of the tiny Program: 0 embed; per layer (14 ops, first 1): rms_norm, q, rope, k,
// rope, v, attention, o, add, rms_norm, router logits, router, experts, add; then rms_norm, select_rows,
// logits.
#include <gmock/gmock.h>

#include <functional>
#include <limits>

#include "kernel/program/program.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::program {
namespace {

using test::tiny_program;

OpT& find_op(ProgramT& p, OpKind kind, int which = 0) {
  for (auto& op : p.ops)
    if (op->kind == kind && which-- == 0) return *op;
  throw std::logic_error("no such op");
}
TensorT& output_of(ProgramT& p, const OpT& op) {
  return *p.tensors[op.outputs[0]];
}
WeightT& find_weight(ProgramT& p, const std::string& name) {
  for (auto& weight : p.weights)
    if (weight->name == name) return *weight;
  throw std::logic_error("no such weight");
}
SourceT& source_of(ProgramT& p, const std::string& name) {
  return *find_weight(p, name).spellings[0]->sources[0];
}

struct refusal_case {
  const char* name;
  std::function<void(ProgramT&)> spoil;
  const char* text;
};
void PrintTo(const refusal_case& c, std::ostream* out) {
  *out << c.name;
}

class Refusal : public testing::TestWithParam<refusal_case> {};

TEST_P(Refusal, NamesWhatIsWrong) {
  auto program = tiny_program::make();
  GetParam().spoil(program);
  const auto verified = verify(tiny_program::bytes(program));
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().code, error_code::bad_program);
  EXPECT_THAT(verified.error().text, testing::HasSubstr(GetParam().text));
}

const float nan = std::numeric_limits<float>::quiet_NaN();

const refusal_case facts_cases[] = {
    {"MajorVersion", [](ProgramT& p) { p.version_major = 2; },
     "expected version 1.1 or older of the same major, found 2.0"},
    {"MinorVersion", [](ProgramT& p) { p.version_minor = 9; },
     "found 1.9: rebuild the module, or update Troupe"},
    {"NoOps", [](ProgramT& p) { p.ops.clear(); }, "at least one op"},
    {"EmptyArchitecture", [](ProgramT& p) { p.facts->architecture.clear(); },
     "facts: architecture: expected 1 to 512"},
    {"Vocabulary", [](ProgramT& p) { p.facts->vocabulary = 0; },
     "facts: vocabulary: expected 1 to 2147483647, found 0"},
    {"HugeVocabulary", [](ProgramT& p) { p.facts->vocabulary = 0xffffffff; }, "facts: vocabulary"},
    {"Hidden", [](ProgramT& p) { p.facts->hidden = 0; }, "facts: hidden"},
    {"Layers", [](ProgramT& p) { p.facts->layers = 70000; },
     "facts: layers: expected 1 to 65536, found 70000"},
    {"Context", [](ProgramT& p) { p.facts->context_tokens = 0; }, "facts: context_tokens"},
    {"Bos", [](ProgramT& p) { p.facts->bos_id = 32; }, "facts: bos_id: expected -1 to 31, found 32"},
    {"Eos",
     [](ProgramT& p) {
       p.facts->eos_ids = {2, -1};
     },
     "facts: eos_ids: expected 0 to 31, found -1"},
};
INSTANTIATE_TEST_SUITE_P(Facts, Refusal, testing::ValuesIn(facts_cases),
                         [](const auto& i) { return i.param.name; });

const refusal_case weight_cases[] = {
    {"UnprintableName", [](ProgramT& p) { p.weights[1]->name = "a\nb"; },
     "weight 1: name: expected 1 to 512 printable"},
    {"NameTwice", [](ProgramT& p) { p.weights[1]->name = "embed"; },
     "weight 1 (embed): the name embed comes twice"},
    {"NoShape", [](ProgramT& p) { p.weights[0]->shape.clear(); },
     "weight 0 (embed): shape: expected 1 to 3 dimensions"},
    {"FourDimensions",
     [](ProgramT& p) {
       p.weights[0]->shape = {1, 1, 1, 1};
     },
     "found [1, 1, 1, 1]"},
    {"ZeroDimension",
     [](ProgramT& p) {
       p.weights[0]->shape = {32, 0};
     },
     "found [32, 0]"},
    {"Overflow",
     [](ProgramT& p) {
       p.weights[0]->shape = {1ull << 40, 1ull << 40};
     },
     "weight 0 (embed): shape"},
    {"HugeDimension",
     [](ProgramT& p) {
       p.weights[0]->shape = {1ull << 33, 1};
     },
     "expected 1 to 2147483647, found 8589934592"},
    {"HugeTotal",
     [](ProgramT& p) {
       p.weights[0]->shape = {1u << 21, 1u << 21};
     },
     "program: expected weights of 4398046511104 elements at most"},
    {"Role", [](ProgramT& p) { p.weights[0]->role = static_cast<WeightRole>(99); },
     "role: expected a number up to 7, found 99"},
    {"PartitionNumber", [](ProgramT& p) { p.weights[0]->partition = static_cast<Partition>(9); },
     "partition"},
    {"PartitionColumns", [](ProgramT& p) { find_weight(p, "norm").partition = Partition::columns; },
     "partition columns"},
    {"PartitionExperts", [](ProgramT& p) { p.weights[0]->partition = Partition::experts; },
     "partition experts"},
    {"NoSpelling", [](ProgramT& p) { p.weights[0]->spellings.clear(); }, "expected at least one spelling"},
    {"NoSource", [](ProgramT& p) { p.weights[0]->spellings[0]->sources.clear(); },
     "weight 0 (embed), spelling 0: expected at least one"},
    {"Combine", [](ProgramT& p) { p.weights[0]->spellings[0]->combine = static_cast<Combine>(7); },
     "combine"},
    {"StackCount", [](ProgramT& p) { p.weights[0]->spellings[0]->combine = Combine::stack; },
     "stack: expected 32 sources, found 1"},
    {"StackOfRankOne", [](ProgramT& p) { find_weight(p, "norm").spellings[0]->combine = Combine::stack; },
     "stack: expected a weight of at least 2"},
    {"SingleOfTwo",
     [](ProgramT& p) {
       p.weights[0]->spellings[0]->sources.push_back(std::make_unique<SourceT>(source_of(p, "norm")));
     },
     "single: expected 1 source, found 2"},
    {"EmptyTensorName", [](ProgramT& p) { source_of(p, "embed").tensor.clear(); },
     "weight 0 (embed), spelling 0, source 0: tensor"},
    {"ReshapeRank", [](ProgramT& p) { source_of(p, "embed").reshape = {512}; },
     "reshape: expected 2 dimensions, found [512]"},
    {"ReshapeOverflow",
     [](ProgramT& p) {
       source_of(p, "embed").reshape = {1ull << 63, 4};
     },
     "not a possible shape"},
    {"ReshapeShape",
     [](ProgramT& p) {
       source_of(p, "embed").reshape = {16, 32};
     },
     "expected 32 along axis 0, found 16"},
    {"SliceAxis", [](ProgramT& p) { source_of(p, "embed").slice_axis = 2; },
     "slice_axis: expected -1 to 1, found 2"},
    {"SliceNegativeAxis", [](ProgramT& p) { source_of(p, "embed").slice_axis = -7; }, "slice_axis"},
    {"SliceEmpty", [](ProgramT& p) { source_of(p, "embed").slice_axis = 0; }, "slice: expected begin < end"},
    {"SliceBackwards",
     [](ProgramT& p) {
       source_of(p, "embed").slice_axis = 0;
       source_of(p, "embed").slice_begin = 64;
       source_of(p, "embed").slice_end = 32;
     },
     "found [64, 32)"},
    {"SliceBeyondReshape",
     [](ProgramT& p) {
       source_of(p, "embed").reshape = {40, 16};
       source_of(p, "embed").slice_axis = 0;
       source_of(p, "embed").slice_begin = 10;
       source_of(p, "embed").slice_end = 42;
     },
     "slice: expected begin < end <= 40, found [10, 42)"},
    {"SliceExtent",
     [](ProgramT& p) {
       source_of(p, "embed").slice_axis = 0;
       source_of(p, "embed").slice_end = 31;
     },
     "expected 32 along axis 0, found 31"},
    {"SliceWithoutAxis", [](ProgramT& p) { source_of(p, "embed").slice_end = 3; }, "slice: expected an axis"},
    {"TransposeRankOne", [](ProgramT& p) { source_of(p, "norm").transpose = true; },
     "transpose: expected at least 2"},
    {"TransposedSlice",
     [](ProgramT& p) {
       source_of(p, "embed").transpose = true;
       source_of(p, "embed").slice_axis = 0;
       source_of(p, "embed").slice_end = 32;
     },
     "expected 16 along axis 1, found 32"},
    {"ConcatSum",
     [](ProgramT& p) {
       find_weight(p, "embed").spellings[0]->combine = Combine::concat;
       source_of(p, "embed").reshape = {30, 16};
     },
     "concat: expected 32 along axis 0, found 30"},
    {"Unused",
     [](ProgramT& p) {
       p.weights.push_back(std::make_unique<WeightT>(find_weight(p, "norm")));
       p.weights.back()->name = "spare";
     },
     "(spare): expected an op that uses it"},
};
INSTANTIATE_TEST_SUITE_P(Weights, Refusal, testing::ValuesIn(weight_cases),
                         [](const auto& i) { return i.param.name; });

const refusal_case cache_cases[] = {
    {"Name", [](ProgramT& p) { p.caches[0]->name = "k v"; }, "cache 0: name"},
    {"Kind", [](ProgramT& p) { p.caches[0]->kind = static_cast<CacheKind>(3); }, "cache 0 (kv): kind"},
    {"Dtype", [](ProgramT& p) { p.caches[0]->dtype = DType::i32; }, "cache 0 (kv): dtype"},
    {"Layers", [](ProgramT& p) { p.caches[0]->layers = 0; }, "cache 0 (kv): layers"},
    {"HugeLayers", [](ProgramT& p) { p.caches[0]->layers = 0xffffffff; },
     "cache 0 (kv): layers: expected 1 to 65536"},
    {"Heads", [](ProgramT& p) { p.caches[0]->kv_heads = 0; }, "cache 0 (kv): kv_heads"},
    {"HeadDim", [](ProgramT& p) { p.caches[0]->head_dim = 0xffffffff; }, "cache 0 (kv): head_dim"},
    {"HugeHeads", [](ProgramT& p) { p.caches[0]->kv_heads = p.caches[0]->head_dim = 1u << 20; },
     "kv_heads * head_dim"},
    {"ShapeOfPaged", [](ProgramT& p) { p.caches[0]->shape = {4}; }, "shape belongs to recurrent only"},
    {"RecurrentWithoutShape", [](ProgramT& p) { p.caches[0]->kind = CacheKind::recurrent; },
     "shape: expected 1 to 4 dimensions"},
    {"RecurrentWithHeads",
     [](ProgramT& p) {
       p.caches[0]->kind = CacheKind::recurrent;
       p.caches[0]->shape = {4, 4};
     },
     "belong to paged_kv only"},
    {"RecurrentOfManyDimensions",
     [](ProgramT& p) {
       p.caches[0]->kind = CacheKind::recurrent;
       p.caches[0]->shape = {1, 1, 1, 1, 1};
     },
     "shape: expected 1 to 4 dimensions"},
    {"RecurrentDtype",
     [](ProgramT& p) {
       p.caches[0]->kind = CacheKind::recurrent;
       p.caches[0]->shape = {4};
       p.caches[0]->dtype = DType::bf16;
     },
     "dtype: expected none or f32"},
    {"LayerNotWritten", [](ProgramT& p) { p.caches[0]->layers = 3; },
     "cache 0 (kv): layer 2: expected one op that writes it"},
    {"NameTwice", [](ProgramT& p) { p.caches.push_back(std::make_unique<CacheT>(*p.caches[0])); },
     "cache 1 (kv): the name kv comes twice"},
};
INSTANTIATE_TEST_SUITE_P(Caches, Refusal, testing::ValuesIn(cache_cases),
                         [](const auto& i) { return i.param.name; });

const refusal_case tensor_cases[] = {
    {"Rank",
     [](ProgramT& p) {
       p.tensors[3]->shape = {4, 4};
     },
     "tensor 3: shape: expected 1 dimension after the first"},
    {"Zero", [](ProgramT& p) { p.tensors[3]->shape = {0}; }, "tensor 3: shape: expected 1 to"},
    {"Huge", [](ProgramT& p) { p.tensors[3]->shape = {1ull << 40}; }, "tensor 3: shape"},
    {"Dtype", [](ProgramT& p) { p.tensors[3]->dtype = DType::bf16; },
     "dtype: expected f32 or i32, found bf16"},
    {"Rows", [](ProgramT& p) { p.tensors[3]->rows = static_cast<Rows>(4); }, "tensor 3: rows"},
    {"Name", [](ProgramT& p) { p.tensors[3]->name = "x y"; }, "tensor 3: name"},
    {"NeverDefined", [](ProgramT& p) { p.tensors.push_back(std::make_unique<TensorT>(*p.tensors[0])); },
     "expected one op that defines it, found none"},
    {"LogitsId", [](ProgramT& p) { p.logits = 0xffffffff; }, "logits: expected a tensor"},
    {"LogitsOfTokens", [](ProgramT& p) { p.logits = 0; }, "logits: expected [R, 32] f32, found [T, 16] f32"},
    {"ProbeTensor", [](ProgramT& p) { p.probes[0]->tensor = 4000; }, "probe 0 (hidden): expected a tensor"},
    {"ProbeName", [](ProgramT& p) { p.probes[0]->name.clear(); }, "probe 0: name"},
    {"ProbeTwice", [](ProgramT& p) { p.probes[1]->name = "hidden"; },
     "probe 1 (hidden): the name hidden comes twice"},
};
INSTANTIATE_TEST_SUITE_P(Tensors, Refusal, testing::ValuesIn(tensor_cases),
                         [](const auto& i) { return i.param.name; });

const refusal_case op_cases[] = {
    {"KindNone", [](ProgramT& p) { p.ops[1]->kind = OpKind::none; },
     "op 1 (none, layers.0): kind: expected one that the schema names, found 0"},
    {"KindUnknown", [](ProgramT& p) { p.ops[1]->kind = static_cast<OpKind>(77); },
     "op 1 (77, layers.0): kind"},
    {"KindInAGap", [](ProgramT& p) { p.ops[1]->kind = static_cast<OpKind>(63); },
     "op 1 (63, layers.0): kind: expected one that the schema names, found 63"},
    {"Scope", [](ProgramT& p) { p.ops[1]->scope = "a b"; }, "op 1 (rms_norm): scope"},
    {"Inputs", [](ProgramT& p) { p.ops[1]->inputs.clear(); },
     "op 1 (rms_norm, layers.0): expected 1 inputs, found 0"},
    {"Outputs", [](ProgramT& p) { p.ops[1]->outputs.push_back(5); },
     "op 1 (rms_norm, layers.0): expected 1 outputs, found 2"},
    {"Weights", [](ProgramT& p) { p.ops[1]->weights.clear(); },
     "op 1 (rms_norm, layers.0): expected 1 weights, found 0"},
    {"LinearWeights",
     [](ProgramT& p) {
       find_op(p, OpKind::linear).weights = {1, 1, 1};
     },
     "expected 1 to 2 weights, found 3"},
    {"InputId", [](ProgramT& p) { p.ops[1]->inputs = {4000}; },
     "op 1 (rms_norm, layers.0): inputs: expected tensors that earlier ops define, found 4000"},
    {"UseBeforeDefinition", [](ProgramT& p) { p.ops[1]->inputs = {5}; }, "op 1 (rms_norm, layers.0): inputs"},
    {"OutputId", [](ProgramT& p) { p.ops[1]->outputs = {4000}; },
     "op 1 (rms_norm, layers.0): outputs: expected ids below"},
    {"DefinedTwice", [](ProgramT& p) { p.ops[1]->outputs = {0}; }, "outputs: tensor 0 is defined already"},
    {"WeightId", [](ProgramT& p) { p.ops[1]->weights = {4000}; },
     "op 1 (rms_norm, layers.0): weights: expected ids below"},
    {"CacheOfNorm", [](ProgramT& p) { p.ops[1]->cache = 0; }, "cache: expected -1, found 0"},
    {"AttrsMissing", [](ProgramT& p) { p.ops[1]->attrs.Reset(); }, "attrs: expected NormAttrs, found none"},
    {"AttrsOfAnother", [](ProgramT& p) { p.ops[1]->attrs.Set(RopeAttrsT()); },
     "attrs: expected NormAttrs, found RopeAttrs"},
    {"AttrsOfAdd", [](ProgramT& p) { find_op(p, OpKind::add).attrs.Set(NormAttrsT()); },
     "attrs: expected none, found NormAttrs"},
    {"EmbedTable",
     [](ProgramT& p) {
       p.weights[0]->shape = {31, 16};
     },
     "op 0 (embed): table embed: expected [32, 16], found [31, 16]"},
    {"EmbedOutput", [](ProgramT& p) { p.tensors[0]->shape = {15}; },
     "op 0 (embed): output: expected [T, 16] f32, found [T, 15] f32"},
    {"EmbedRows", [](ProgramT& p) { p.tensors[0]->rows = Rows::logit_rows; }, "op 0 (embed): output"},
    {"LinearWeight",
     [](ProgramT& p) {
       find_weight(p, "layers.0.q").shape = {16, 17};
     },
     "weight layers.0.q: expected [16, 16], found [16, 17]"},
    {"LinearRows", [](ProgramT& p) { output_of(p, find_op(p, OpKind::linear)).rows = Rows::logit_rows; },
     "output: expected [T, 16]"},
    {"LinearDtype", [](ProgramT& p) { output_of(p, find_op(p, OpKind::linear)).dtype = DType::i32; },
     "found [T, 16] i32"},
    {"LinearBias", [](ProgramT& p) { find_op(p, OpKind::linear, 1).weights.push_back(1); },
     "bias layers.0.norm_1: expected [8], found [16]"},
    {"NormWeight", [](ProgramT& p) { find_weight(p, "layers.0.norm_1").shape = {17}; },
     "weight layers.0.norm_1: expected [16], found [17]"},
    {"NormEps", [](ProgramT& p) { p.ops[1]->attrs.AsNormAttrs()->eps = 0; },
     "eps: expected a number above 0, found 0"},
    {"NormEpsNan", [](ProgramT& p) { p.ops[1]->attrs.AsNormAttrs()->eps = nan; },
     "eps: expected a number above 0, found nan"},
    {"AddShapes",
     [](ProgramT& p) { find_op(p, OpKind::add).inputs[1] = find_op(p, OpKind::linear, 1).outputs[0]; },
     "b: expected [T, 16] f32, found [T, 8] f32"},
    {"RopeOdd", [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->rotary_dim = 3; },
     "rotary_dim: expected an even number from 2 to head_dim 4, found 3"},
    {"RopeTooWide", [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->rotary_dim = 6; },
     "rotary_dim"},
    {"RopeZero", [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->rotary_dim = 0; },
     "rotary_dim"},
    {"RopeHeadDim", [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->head_dim = 0; },
     "head_dim: expected 1 to"},
    {"RopeMultiple", [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->head_dim = 5; },
     "x: expected a multiple of head_dim 5"},
    {"RopeTheta", [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->theta = -1; },
     "theta: expected a number above 0"},
    {"RopeLayout",
     [](ProgramT& p) { find_op(p, OpKind::rope).attrs.AsRopeAttrs()->layout = static_cast<RopeLayout>(2); },
     "layout: expected 0 to 1, found 2"},
    {"AttentionGroups",
     [](ProgramT& p) { find_op(p, OpKind::attention).attrs.AsAttentionAttrs()->kv_heads = 3; },
     "heads: expected a multiple of kv_heads 3, found 4"},
    {"AttentionHeads", [](ProgramT& p) { find_op(p, OpKind::attention).attrs.AsAttentionAttrs()->heads = 0; },
     "heads: expected 1 to"},
    {"AttentionKvHeads",
     [](ProgramT& p) { find_op(p, OpKind::attention).attrs.AsAttentionAttrs()->kv_heads = 0; },
     "kv_heads: expected 1 to"},
    {"AttentionScale",
     [](ProgramT& p) { find_op(p, OpKind::attention).attrs.AsAttentionAttrs()->scale = nan; }, "scale"},
    {"AttentionQuery", [](ProgramT& p) { find_op(p, OpKind::attention).attrs.AsAttentionAttrs()->heads = 8; },
     "q: expected [T, 32] f32, found [T, 16] f32"},
    {"AttentionValue",
     [](ProgramT& p) {
       auto& op = find_op(p, OpKind::attention);
       op.inputs[2] = op.inputs[0];
     },
     "v: expected [T, 8] f32, found [T, 16] f32"},
    {"AttentionNoCache", [](ProgramT& p) { find_op(p, OpKind::attention).cache = -1; },
     "cache: expected 0 to 0, found -1"},
    {"AttentionCacheId", [](ProgramT& p) { find_op(p, OpKind::attention).cache = 1; },
     "cache: expected 0 to 0, found 1"},
    {"AttentionCacheShape", [](ProgramT& p) { p.caches[0]->head_dim = 8; },
     "cache kv: expected paged_kv of 2 heads x 4, found paged_kv of 2 x 8"},
    {"AttentionLayer",
     [](ProgramT& p) { find_op(p, OpKind::attention).attrs.AsAttentionAttrs()->cache_layer = 2; },
     "layer of cache kv: expected 0 to 1, found 2"},
    {"AttentionLayerTwice",
     [](ProgramT& p) { find_op(p, OpKind::attention, 1).attrs.AsAttentionAttrs()->cache_layer = 0; },
     "(attention, layers.1): layer 0 of cache kv is written by an earlier op"},
    {"RouterTopK", [](ProgramT& p) { find_op(p, OpKind::router).attrs.AsRouterAttrs()->top_k = 5; },
     "top_k: expected 1 to 4, found 5"},
    {"RouterTopKZero", [](ProgramT& p) { find_op(p, OpKind::router).attrs.AsRouterAttrs()->top_k = 0; },
     "top_k: expected 1 to 4, found 0"},
    {"RouterExperts", [](ProgramT& p) { find_op(p, OpKind::router).attrs.AsRouterAttrs()->experts = 5; },
     "logits: expected [T, 5] f32, found [T, 4] f32"},
    {"RouterScore",
     [](ProgramT& p) {
       find_op(p, OpKind::router).attrs.AsRouterAttrs()->score = static_cast<RouterScore>(5);
     },
     "score"},
    {"RouterNorm",
     [](ProgramT& p) { find_op(p, OpKind::router).attrs.AsRouterAttrs()->norm = static_cast<RouterNorm>(5); },
     "norm: expected 0 to 1, found 5"},
    {"RouterDtype", [](ProgramT& p) { p.tensors[find_op(p, OpKind::router).outputs[1]]->dtype = DType::f32; },
     "output experts: expected [T, 2] i32, found [T, 2] f32"},
    {"ExpertsGate",
     [](ProgramT& p) {
       find_weight(p, "layers.0.gate").shape = {4, 8, 15};
     },
     "gate layers.0.gate: expected [E, F, 16], found [4, 8, 15]"},
    {"ExpertsUp",
     [](ProgramT& p) {
       find_weight(p, "layers.0.up").shape = {4, 9, 16};
     },
     "up layers.0.up: expected [4, 8, 16], found [4, 9, 16]"},
    {"ExpertsDown",
     [](ProgramT& p) {
       find_weight(p, "layers.0.down").shape = {4, 8, 16};
     },
     "down layers.0.down: expected [4, 16, 8], found [4, 8, 16]"},
    {"ExpertsCount",
     [](ProgramT& p) {
       for (const char* name : {"layers.0.gate", "layers.0.up", "layers.0.down"})
         find_weight(p, name).shape[0] = 3;
     },
     "expected ids chosen by a router among 3, found a router of 4"},
    {"ExpertsIds",
     [](ProgramT& p) {
       auto& op = find_op(p, OpKind::experts);
       op.inputs[2] = op.inputs[1];
     },
     "experts: expected [T, 2] i32, found [T, 2] f32"},
    {"ExpertsActivation",
     [](ProgramT& p) {
       find_op(p, OpKind::experts).attrs.AsExpertsAttrs()->activation = static_cast<Activation>(4);
     },
     "activation: expected 0 to 3, found 4"},
    {"SelectTwice",
     [](ProgramT& p) {
       p.ops.back()->kind = OpKind::select_rows;
       p.ops.back()->weights.clear();
     },
     "x: expected [T, 16] f32, found [R, 16] f32"},
    {"SelectOutput", [](ProgramT& p) { output_of(p, find_op(p, OpKind::select_rows)).rows = Rows::tokens; },
     "output: expected [R, 16] f32, found [T, 16] f32"},
};
INSTANTIATE_TEST_SUITE_P(Ops, Refusal, testing::ValuesIn(op_cases),
                         [](const auto& i) { return i.param.name; });

}  // namespace
}  // namespace troupe::program
