#include <gmock/gmock.h>

#include <numeric>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/checkpoint/convert.hpp"
#include "kernel/program/program.hpp"
#include "tests/support/safetensors_writer.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::checkpoint {
namespace {

using namespace test;
using program::Combine;
using program::SourceT;
using program::SpellingT;
using program::WeightT;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

std::vector<float> count_up(std::size_t n, float first = 0) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), first);
  return values;
}

SourceT source(std::string tensor) {
  SourceT s;
  s.tensor = std::move(tensor);
  return s;
}
SourceT sliced(std::string tensor, int axis, std::uint64_t begin, std::uint64_t end) {
  auto s = source(std::move(tensor));
  s.slice_axis = axis;
  s.slice_begin = begin;
  s.slice_end = end;
  return s;
}
SourceT transposed(SourceT s) {
  s.transpose = true;
  return s;
}
SourceT reshaped(SourceT s, std::vector<std::uint64_t> shape) {
  s.reshape = std::move(shape);
  return s;
}

class Bind : public testing::Test {
 protected:
  void store(const std::vector<stored_tensor>& tensors) {
    write_safetensors(folder_.path() / "model.safetensors", tensors);
    reopen();
  }
  void reopen() {
    auto opened = weights::open(folder_.path());
    ASSERT_TRUE(opened) << opened.error().text;
    files_ = *opened;
  }
  void weight(std::vector<std::uint64_t> shape) {
    weight_ = {};
    weight_.name = "w";
    weight_.shape = std::move(shape);
  }
  void spelling(Combine combine, const std::vector<SourceT>& sources) {
    auto s = std::make_unique<SpellingT>();
    s->combine = combine;
    for (const auto& one : sources) s->sources.push_back(std::make_unique<SourceT>(one));
    weight_.spellings.push_back(std::move(s));
  }
  result<bound_weight> bind_it() {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(program::Weight::Pack(builder, &weight_));
    return bind(*flatbuffers::GetRoot<program::Weight>(builder.GetBufferPointer()), *files_);
  }
  bound_weight bound() {
    auto b = bind_it();
    if (!b) throw std::runtime_error(b.error().text);
    return *b;
  }
  std::string error_text() {
    const auto b = bind_it();
    if (b) return "no error";
    EXPECT_EQ(b.error().code, error_code::bad_checkpoint);
    return b.error().text;
  }
  static std::vector<float> values(const bound_weight& b, std::size_t plane = 0) {
    std::vector<float> out;
    const auto size = program::size_of(b.dtype);
    for (std::uint64_t i = 0; i < b.rows * b.columns; ++i)
      out.push_back(load_f32(b.planes[plane] + i * size, b.dtype));
    return out;
  }
  bool in_file(const bound_weight& b, std::size_t plane, const char* tensor, std::size_t element) const {
    const auto* view = files_->find(tensor);
    return b.planes[plane] == view->data.data() + element * program::size_of(view->dtype);
  }

  temp_folder folder_;
  std::shared_ptr<const weights> files_;
  WeightT weight_;
};

TEST_F(Bind, TakesRankOneAndTwoInPlace) {
  store({bf16_tensor("norm", {4}, count_up(4)), f32_tensor("linear", {2, 3}, count_up(6))});
  weight({4});
  spelling(Combine::single, {source("norm")});
  auto b = bound();
  EXPECT_EQ(b.rows, 1u);
  EXPECT_EQ(b.columns, 4u);
  EXPECT_EQ(b.dtype, DType::bf16);
  EXPECT_TRUE(in_file(b, 0, "norm", 0));
  weight({2, 3});
  spelling(Combine::single, {source("linear")});
  b = bound();
  EXPECT_EQ(b.rows, 2u);
  EXPECT_EQ(b.columns, 3u);
  EXPECT_FALSE(b.copied());
  EXPECT_THAT(values(b), ElementsAreArray(count_up(6)));
}

TEST_F(Bind, StacksOneTensorPerExpertInPlaceAcrossShards) {
  write_safetensors(folder_.path() / "one.safetensors", {bf16_tensor("e.0", {2, 3}, count_up(6))});
  write_safetensors(folder_.path() / "two.safetensors", {bf16_tensor("e.1", {2, 3}, count_up(6, 10))});
  folder_.write("model.safetensors.index.json",
                R"({"weight_map": {"e.0": "one.safetensors", "e.1": "two.safetensors"}})");
  reopen();
  weight({2, 2, 3});
  spelling(Combine::stack, {source("e.0"), source("e.1")});
  const auto b = bound();
  EXPECT_EQ(b.rows, 2u);
  EXPECT_EQ(b.columns, 3u);
  ASSERT_EQ(b.planes.size(), 2u);
  EXPECT_TRUE(in_file(b, 0, "e.0", 0));
  EXPECT_TRUE(in_file(b, 1, "e.1", 0));
  EXPECT_FALSE(b.copied());
  EXPECT_THAT(values(b, 1), ElementsAreArray(count_up(6, 10)));
}

TEST_F(Bind, SlicesAStackedTensorAlongAxisOneInPlace) {
  store({bf16_tensor("gate_up", {2, 4, 3}, count_up(24))});  // per expert 2 gate rows, then 2 up rows
  weight({2, 2, 3});
  spelling(Combine::single, {sliced("gate_up", 1, 2, 4)});
  const auto b = bound();
  ASSERT_EQ(b.planes.size(), 2u);
  EXPECT_FALSE(b.copied());
  EXPECT_TRUE(in_file(b, 0, "gate_up", 6));
  EXPECT_TRUE(in_file(b, 1, "gate_up", 18));
  EXPECT_THAT(values(b, 1), ElementsAreArray(count_up(6, 18)));
}

TEST_F(Bind, BothExpertSpellingsGiveTheSameNumbers) {
  store({bf16_tensor("w1.0", {2, 3}, count_up(6)), bf16_tensor("w1.1", {2, 3}, count_up(6, 12)),
         bf16_tensor("gate_up", {2, 4, 3}, count_up(24))});
  weight({2, 2, 3});
  spelling(Combine::stack, {source("w1.0"), source("w1.1")});
  const auto per_expert = bound();
  weight({2, 2, 3});
  spelling(Combine::single, {sliced("gate_up", 1, 0, 2)});
  const auto stacked = bound();
  for (std::size_t e = 0; e < 2; ++e) EXPECT_EQ(values(per_expert, e), values(stacked, e));
}

TEST_F(Bind, TakesTheFirstSpellingThatIsComplete) {
  store({bf16_tensor("w1.0", {2, 3}, count_up(6)), bf16_tensor("gate", {2, 2, 3}, count_up(12))});
  weight({2, 2, 3});
  spelling(Combine::stack, {source("w1.0"), source("w1.1")});
  spelling(Combine::single, {source("gate")});
  EXPECT_TRUE(in_file(bound(), 1, "gate", 6));
}

TEST_F(Bind, ReshapesThenTransposesEachExpert) {
  store({bf16_tensor("w2", {6, 2}, count_up(12))});  // 2 experts x [3, 2]
  weight({2, 2, 3});
  spelling(Combine::single, {transposed(reshaped(source("w2"), {2, 3, 2}))});
  const auto b = bound();
  EXPECT_TRUE(b.copied());
  EXPECT_THAT(values(b, 0), ElementsAre(0, 2, 4, 1, 3, 5));
  EXPECT_THAT(values(b, 1), ElementsAre(6, 8, 10, 7, 9, 11));
}

// As large as the stacked experts of a real checkpoint, in a file that is nearly all hole.
TEST_F(Bind, ReachesExpertsBehindFourGigabytes) {
  constexpr std::uint64_t experts = 66000, rows = 128, columns = 256, plane = rows * columns * 2;
  static_assert(experts * plane > std::uint64_t{1} << 32);
  auto header = fmt::format(R"({{"w2":{{"dtype":"BF16","shape":[{},{}],"data_offsets":[0,{}]}}}})",
                            experts * rows, columns, experts * plane);
  header.append((8 - header.size() % 8) % 8, ' ');
  const auto file = folder_.write("model.safetensors", safetensors_bytes(header, ""));
  std::filesystem::resize_file(file, 8 + header.size() + experts * plane);
  const auto mark = [&](std::uint64_t expert, std::uint64_t row, std::uint64_t column, std::uint16_t bits) {
    std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(8 + header.size() + expert * plane + (row * columns + column) * 2));
    out.write(reinterpret_cast<const char*>(&bits), 2);
  };
  mark(experts - 1, 3, 5, 0x3f80);  // 1.0
  mark(experts - 1, 127, 255, 0x4000);
  reopen();

  weight({experts, rows, columns});
  spelling(Combine::single, {reshaped(source("w2"), {experts, rows, columns})});
  const auto whole = bound();
  EXPECT_FALSE(whole.copied());
  ASSERT_EQ(whole.planes.size(), experts);
  EXPECT_TRUE(in_file(whole, experts - 1, "w2", (experts - 1) * rows * columns));
  EXPECT_EQ(values(whole, experts - 1)[3 * columns + 5], 1);

  weight({1, columns, rows});
  auto last = reshaped(sliced("w2", 0, experts - 1, experts), {experts, rows, columns});
  spelling(Combine::single, {transposed(last)});
  const auto turned = values(bound());
  EXPECT_EQ(turned[5 * rows + 3], 1);
  EXPECT_EQ(turned[255 * rows + 127], 2);
  EXPECT_EQ(std::accumulate(turned.begin(), turned.end(), 0.0f), 3);
}

TEST_F(Bind, TransposesMatricesLargerThanATile) {
  const std::uint64_t rows = 150, columns = 70;
  store({f32_tensor("m", {rows, columns}, count_up(rows * columns))});
  weight({columns, rows});
  spelling(Combine::single, {transposed(source("m"))});
  const auto out = values(bound());
  for (std::uint64_t r = 0; r < rows; ++r)
    for (std::uint64_t c = 0; c < columns; ++c)
      ASSERT_EQ(out[c * rows + r], static_cast<float>(r * columns + c)) << r << ", " << c;
}

TEST_F(Bind, TakesRowsOfAFusedMatrixInPlaceAndColumnsByCopy) {
  store({bf16_tensor("qkv", {4, 3}, count_up(12))});
  weight({2, 3});
  spelling(Combine::single, {sliced("qkv", 0, 1, 3)});
  const auto rows = bound();
  EXPECT_TRUE(in_file(rows, 0, "qkv", 3));
  EXPECT_FALSE(rows.copied());
  weight({4, 2});
  spelling(Combine::single, {sliced("qkv", 1, 1, 3)});
  const auto columns = bound();
  EXPECT_TRUE(columns.copied());
  EXPECT_THAT(values(columns), ElementsAre(1, 2, 4, 5, 7, 8, 10, 11));
}

TEST_F(Bind, ConcatenatesAlongTheFirstAxis) {
  store({bf16_tensor("a", {1, 2}, {1, 2}), bf16_tensor("b", {2, 2}, {3, 4, 5, 6}),
         bf16_tensor("gap", {1}, {0}), bf16_tensor("c", {1, 2}, {7, 8})});
  weight({3, 2});
  spelling(Combine::concat, {source("a"), source("b")});
  const auto neighbours = bound();
  EXPECT_FALSE(neighbours.copied()) << "they stand one behind the other in the file";
  EXPECT_THAT(values(neighbours), ElementsAre(1, 2, 3, 4, 5, 6));
  weight({3, 2});
  spelling(Combine::concat, {source("c"), source("b")});
  const auto apart = bound();
  EXPECT_TRUE(apart.copied());
  EXPECT_THAT(values(apart), ElementsAre(7, 8, 3, 4, 5, 6));
}

TEST_F(Bind, ConcatenatesVectorsAndExpertsAndStacksRows) {
  store({bf16_tensor("a", {2}, {1, 2}), bf16_tensor("b", {2}, {3, 4}), bf16_tensor("gap", {1}, {0}),
         bf16_tensor("x", {1, 2, 2}, {1, 2, 3, 4}), bf16_tensor("y", {1, 2, 2}, {5, 6, 7, 8})});
  weight({4});
  spelling(Combine::concat, {source("b"), source("a")});
  const auto vector = bound();
  EXPECT_EQ(vector.rows, 1u);
  EXPECT_EQ(vector.columns, 4u);
  EXPECT_THAT(values(vector), ElementsAre(3, 4, 1, 2));
  weight({2, 2, 2});
  spelling(Combine::concat, {source("y"), source("x")});
  const auto experts = bound();
  EXPECT_FALSE(experts.copied());
  EXPECT_THAT(values(experts, 0), ElementsAre(5, 6, 7, 8));
  weight({2, 2});
  spelling(Combine::stack, {source("b"), source("a")});
  EXPECT_THAT(values(bound()), ElementsAre(3, 4, 1, 2));
}

TEST_F(Bind, TurnsMixedDtypesIntoF32) {
  store({bf16_tensor("a", {1, 2}, {1, 2}),
         f32_tensor("b", {1, 2}, {3, 4}),
         {"h", "F16", {1, 2}, std::string("\x00\x3c\x00\xc2", 4)}});
  weight({3, 1, 2});
  spelling(Combine::stack, {source("a"), source("b"), source("h")});
  const auto b = bound();
  EXPECT_EQ(b.dtype, DType::f32);
  EXPECT_THAT(values(b, 0), ElementsAre(1, 2));
  EXPECT_THAT(values(b, 1), ElementsAre(3, 4));
  EXPECT_THAT(values(b, 2), ElementsAre(1, -3));
  EXPECT_TRUE(in_file(b, 1, "b", 0));
}

TEST_F(Bind, CopiesWhatTheFileDoesNotAlign) {
  store({{"odd", "U8", {1}, "x"}, bf16_tensor("a", {2}, {1, 2})});  // "a" begins at an odd byte
  weight({2});
  spelling(Combine::single, {source("a")});
  const auto b = bound();
  EXPECT_TRUE(b.copied());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.planes[0]) % 2, 0u);
  EXPECT_THAT(values(b), ElementsAre(1, 2));
}

TEST_F(Bind, ListsWhatEverySpellingLacks) {
  store({bf16_tensor("e.0", {2, 3}, count_up(6))});
  weight({6, 2, 3});
  spelling(Combine::stack,
           {source("e.0"), source("e.1"), source("e.2"), source("e.3"), source("e.4"), source("e.5")});
  spelling(Combine::single, {source("stacked")});
  EXPECT_EQ(error_text(), folder_.path().string() +
                              ": weight w: not in the checkpoint: e.1, e.2, e.3 and 2 more; nor stacked");
}

TEST_F(Bind, NamesTensorExpectedAndFoundWhenShapesDiffer) {
  store({bf16_tensor("a", {2, 3}, count_up(6)), bf16_tensor("v", {4}, count_up(4))});
  const std::string where = "model.safetensors: tensor a (for weight w): ";
  weight({3, 2});
  spelling(Combine::single, {source("a")});
  EXPECT_EQ(error_text(), where + "expected [3, 2], found [2, 3]");
  weight({6});
  spelling(Combine::single, {source("a")});
  EXPECT_EQ(error_text(), where + "expected [6], found [2, 3]");
  weight({1, 2, 4});
  spelling(Combine::stack, {source("a")});
  EXPECT_EQ(error_text(), where + "expected [2, 4], found [2, 3]");
  weight({5, 3});
  spelling(Combine::concat, {source("a"), source("a")});
  EXPECT_EQ(error_text(), "model.safetensors: weight w: expected 5 along axis 0 over its 2 tensors, found 4");
  weight({4, 4});
  spelling(Combine::concat, {source("a"), source("a")});
  EXPECT_EQ(error_text(), where + "expected [4, 4] (any first dimension), found [2, 3]");
  weight({2, 4});
  spelling(Combine::single, {reshaped(source("a"), {2, 4})});
  EXPECT_EQ(error_text(), where + "expected a shape that can be seen as [2, 4], found [2, 3]");
  weight({4, 3});
  spelling(Combine::single, {sliced("a", 0, 0, 4)});
  EXPECT_EQ(error_text(), where + "expected at least 4 along axis 0, found [2, 3]");
  weight({4, 1});
  spelling(Combine::single, {transposed(source("v"))});
  EXPECT_THAT(error_text(), HasSubstr("expected at least two dimensions to transpose, found [4]"));
}

TEST_F(Bind, RefusesADtypeThatIsNoWeight) {
  store({{"a", "I64", {1}, std::string(8, '\0')}});
  weight({1});
  spelling(Combine::single, {source("a")});
  EXPECT_EQ(error_text(), "model.safetensors: tensor a (for weight w): expected F32, BF16 or F16, found I64");
}

TEST(Convert, KnowsEveryKindOfHalf) {
  EXPECT_EQ(f32_from_f16(0x3c00), 1.0f);
  EXPECT_EQ(f32_from_f16(0xc200), -3.0f);
  EXPECT_EQ(f32_from_f16(0x7bff), 65504.0f);
  EXPECT_EQ(f32_from_f16(0x0001), 0x1p-24f);
  EXPECT_EQ(f32_from_f16(0x83ff), -1023 * 0x1p-24f);
  EXPECT_EQ(f32_from_f16(0x8000), 0.0f);
  EXPECT_TRUE(std::isinf(f32_from_f16(0x7c00)));
  EXPECT_TRUE(std::isnan(f32_from_f16(0x7e00)));
  EXPECT_EQ(f32_from_bf16(0x3fc0), 1.5f);
}

}  // namespace
}  // namespace troupe::checkpoint
