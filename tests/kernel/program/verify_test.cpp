#include <gmock/gmock.h>

#include <random>

#include "kernel/program/print.hpp"
#include "tests/support/sharing_program.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::program {
namespace {

using test::tiny_program;
using testing::HasSubstr;

TEST(Verify, AcceptsAValidProgramAndKeepsItsOwnCopy) {
  auto bytes = tiny_program::bytes(tiny_program::make());
  const auto verified = verify(bytes);
  ASSERT_TRUE(verified) << verified.error().text;
  std::fill(bytes.begin(), bytes.end(), std::uint8_t{0});
  EXPECT_EQ((*verified)->facts()->architecture()->str(), "TinyForCausalLM");
  EXPECT_EQ(verified->bytes().size(), bytes.size());
}

TEST(Verify, AcceptsATiedOutputWeight) {
  auto program = tiny_program::make();
  program.ops.back()->weights = {0};
  program.weights.pop_back();
  const auto verified = verify(tiny_program::bytes(program));
  EXPECT_TRUE(verified) << verified.error().text;
}

TEST(Verify, RefusesBytesOfAnotherKind) {
  const std::vector<std::uint8_t> none;
  EXPECT_EQ(verify(none).error().code, error_code::bad_program);
  const std::vector<std::uint8_t> zeros(64);
  EXPECT_THAT(verify(zeros).error().text, HasSubstr("identifier TRPG"));
  auto bytes = tiny_program::bytes(tiny_program::make());
  bytes.resize(bytes.size() / 2);
  EXPECT_THAT(verify(bytes).error().text, HasSubstr("not a valid FlatBuffer"));
}

TEST(Verify, NeverCrashesOnCorruptedBytesAndWhatPassesCanBePrinted) {
  const auto good = tiny_program::bytes(tiny_program::make());
  std::mt19937 random(20260101);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    auto bytes = good;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < changes; ++i) bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
    if (random() % 8 == 0) bytes.resize(random() % bytes.size());
    const auto verified = verify(bytes);
    if (verified) {
      EXPECT_FALSE(print(**verified).empty());
      EXPECT_FALSE(print_json(**verified).empty());
      continue;
    }
    ++refused;
    EXPECT_EQ(verified.error().code, error_code::bad_program);
    EXPECT_FALSE(verified.error().text.empty());
    for (const char c : verified.error().text) ASSERT_TRUE(c >= ' ' && c <= '~') << verified.error().text;
  }
  EXPECT_GT(refused, 10000);
}

TEST(Verify, NeverCrashesOnStructurallyValidProgramsWithRandomNumbers) {
  std::mt19937 random(7);
  const auto odd = [&]() -> std::uint32_t {
    const std::uint32_t choices[] = {
        0, 1, 2, 3, 7, 16, 255, 0x7fffffff, 0x80000000, 0xffffffff, static_cast<std::uint32_t>(random())};
    return choices[random() % std::size(choices)];
  };
  for (int round = 0; round < 3000; ++round) {
    auto program = tiny_program::make();
    auto& op = *program.ops[random() % program.ops.size()];
    auto& weight = *program.weights[random() % program.weights.size()];
    auto& source = *weight.spellings[0]->sources[0];
    switch (random() % 12) {
      case 0:
        op.kind = static_cast<OpKind>(odd());
        break;
      case 1:
        op.inputs.assign(random() % 4, odd());
        break;
      case 2:
        op.outputs.assign(random() % 3, odd());
        break;
      case 3:
        op.weights.assign(random() % 4, odd());
        break;
      case 4:
        op.cache = static_cast<std::int32_t>(odd());
        break;
      case 5:
        weight.shape.assign(random() % 5, std::uint64_t{odd()} * odd());
        break;
      case 6:
        source.reshape.assign(random() % 5, std::uint64_t{odd()} * odd());
        break;
      case 7:
        source.slice_axis = static_cast<std::int32_t>(odd());
        source.slice_end = odd();
        break;
      case 8:
        program.tensors[random() % program.tensors.size()]->shape.assign(random() % 3, odd());
        break;
      case 9:
        program.caches[0]->kv_heads = odd();
        program.caches[0]->layers = odd();
        break;
      case 10:
        op.attrs.Reset();
        break;
      case 11:
        program.logits = odd();
        break;
    }
    const auto verified = verify(tiny_program::bytes(program));
    EXPECT_TRUE(verified || verified.error().code == error_code::bad_program);
  }
}

TEST(Verify, AcceptsThatOpsShareWhatTheyPointTo) {
  const auto verified = verify(test::sharing_program::bytes(200, 64));
  EXPECT_TRUE(verified) << verified.error().text;
}

// 20,000 million numbers to look at, in less than 2 MB.
TEST(Verify, IsNotKeptBusyByWhatOpsShare) {
  const auto verified = verify(test::sharing_program::bytes(20'000, 100'000));
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().code, error_code::bad_program);
  EXPECT_THAT(verified.error().text,
              HasSubstr("tables, numbers and letters, each counted wherever it is used"));
}

TEST(Verify, CountsSharedNamesAndShapes) {
  flatbuffers::FlatBufferBuilder b;
  const auto name = b.CreateString(std::string(60'000, 'x'));
  const auto tensor =
      CreateTensor(b, Rows::tokens, b.CreateVector(std::vector<std::uint64_t>(60'000, 1)), DType::f32, name);
  const std::vector<flatbuffers::Offset<Tensor>> tensors(100'000, tensor);
  const std::vector<flatbuffers::Offset<Op>> ops = {CreateOp(b)};
  const std::vector<flatbuffers::Offset<Weight>> weights;
  const std::vector<flatbuffers::Offset<Cache>> caches;
  const auto facts = CreateFacts(b, b.CreateString("A"), 1, 1, 1, 1);
  FinishProgramBuffer(b, CreateProgram(b, 1, 1, facts, b.CreateVector(weights), b.CreateVector(caches),
                                       b.CreateVector(tensors), b.CreateVector(ops)));
  const auto verified = verify({b.GetBufferPointer(), b.GetSize()});
  ASSERT_FALSE(verified);
  EXPECT_THAT(verified.error().text, HasSubstr("too much is shared"));
}

TEST(Count, CountsTheMatricesThatOneTokenMeetsAsActive) {
  const auto verified = verify(tiny_program::bytes(tiny_program::make()));
  ASSERT_TRUE(verified) << verified.error().text;
  const std::uint64_t attention = 16 * 16 + 8 * 16 + 8 * 16 + 16 * 16, norms = 2 * 16, router = 4 * 16,
                      expert = 3 * 8 * 16;
  const auto counts = count_parameters(**verified);
  EXPECT_EQ(counts.total, 32 * 16 + 2 * (attention + norms + router + 4 * expert) + 16 + 32 * 16);
  EXPECT_EQ(counts.active, 2 * (attention + router + 2 * expert) + 32 * 16) << "no norms, no embedding row";
}

TEST(Count, CountsATiedEmbeddingOnce) {
  auto program = tiny_program::make();
  for (auto& op : program.ops)
    if (op->kind == OpKind::linear && op->scope.empty()) op->weights = {0};
  program.weights.pop_back();
  const auto verified = verify(tiny_program::bytes(program));
  ASSERT_TRUE(verified) << verified.error().text;
  const auto untied = verify(tiny_program::bytes(tiny_program::make()));
  EXPECT_EQ(count_parameters(**verified).total, count_parameters(**untied).total - 32 * 16);
  EXPECT_EQ(count_parameters(**verified).active, count_parameters(**untied).active);
}

TEST(Count, CountsKeysAndValuesOfAllLayers) {
  const auto verified = verify(tiny_program::bytes(tiny_program::make()));
  ASSERT_TRUE(verified) << verified.error().text;
  EXPECT_EQ(kv_bytes_per_token(**verified, 4), 2u * 2 * 2 * 4 * 4);
  EXPECT_EQ(kv_bytes_per_token(**verified, 2), 2u * 2 * 2 * 4 * 2);
}

TEST(Count, KnowsTheBytesOfEveryDtype) {
  EXPECT_EQ(size_of(DType::f32), 4u);
  EXPECT_EQ(size_of(DType::i32), 4u);
  EXPECT_EQ(size_of(DType::bf16), 2u);
  EXPECT_EQ(size_of(DType::f16), 2u);
  EXPECT_EQ(size_of(DType::none), 0u);
}

}  // namespace
}  // namespace troupe::program
