// Made-up weights: the same for the same seed and name, of the size that a Program asks for.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/checkpoint/convert.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::checkpoint {
namespace {

using ::testing::HasSubstr;

std::vector<float> numbers(const bound_weight& w) {
  std::vector<float> out;
  for (const auto* plane : w.planes)
    for (std::uint64_t i = 0; i < w.rows * w.columns; ++i)
      out.push_back(load_f32(plane + i * 2, DType::bf16));
  return out;
}

bound_weight make(const char* name, std::vector<std::uint64_t> shape, std::uint64_t seed,
                  program::WeightRole role = program::WeightRole::linear, made_up filled = made_up::filled) {
  program::WeightT weight;
  weight.name = name;
  weight.shape = std::move(shape);
  weight.role = role;
  weight.spellings.push_back(std::make_unique<program::SpellingT>());
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(program::Weight::Pack(builder, &weight));
  const auto bound = bind(*flatbuffers::GetRoot<program::Weight>(builder.GetBufferPointer()),
                          *weights::synthetic(seed), filled);
  EXPECT_TRUE(bound);
  return *bound;
}

TEST(Synthetic, IsTheSameForTheSameSeedAndName) {
  const auto one = numbers(make("a", {8, 12}, 1));
  EXPECT_EQ(one, numbers(make("a", {8, 12}, 1)));
  EXPECT_NE(one, numbers(make("a", {8, 12}, 2)));
  EXPECT_NE(one, numbers(make("b", {8, 12}, 1)));
}

TEST(Synthetic, HasTheShapeThatTheProgramAsksFor) {
  const auto stacked = make("a", {3, 5, 7}, 1);
  EXPECT_EQ(stacked.planes.size(), 3u);
  EXPECT_EQ(stacked.rows, 5u);
  EXPECT_EQ(stacked.columns, 7u);
  const auto vector = make("a", {9}, 1);
  EXPECT_EQ(vector.rows, 1u);
  EXPECT_EQ(vector.columns, 9u);
}

TEST(Synthetic, PlanesDiffer) {
  const auto all = numbers(make("a", {2, 16, 16}, 1));
  EXPECT_FALSE(std::equal(all.begin(), all.begin() + 256, all.begin() + 256));
}

TEST(Synthetic, PiecesAreThoseOfTheWhole) {
  const synthetic_numbers of{42, 0, 1};
  std::vector<std::uint16_t> whole(101), piece(37);
  synthesize(of, 0, 0, whole.size(), whole.data());
  for (const std::size_t first : {0u, 1u, 6u, 64u}) {
    synthesize(of, 0, first, piece.size(), piece.data());
    EXPECT_TRUE(std::equal(piece.begin(), piece.end(), whole.begin() + static_cast<std::ptrdiff_t>(first)))
        << first;
  }
}

TEST(Synthetic, MatricesKeepTheSizeOfWhatTheyAreGiven) {
  const auto all = numbers(make("a", {128, 256}, 1));
  double sum = 0, squares = 0;
  for (const float x : all) {
    sum += x;
    squares += static_cast<double>(x) * x;
  }
  EXPECT_NEAR(sum / static_cast<double>(all.size()), 0, 1e-3);
  EXPECT_NEAR(squares / static_cast<double>(all.size()) * 256, 1, 0.02);
}

TEST(Synthetic, NormsStandAroundOne) {
  for (const float x : numbers(make("n", {512}, 1, program::WeightRole::norm))) EXPECT_NEAR(x, 1, 0.11);
}

TEST(Synthetic, LeavesPlanesToTheDeviceThatMakesThem) {
  const auto bound = make("a", {2, 4, 4}, 1, program::WeightRole::experts, made_up::left_out);
  EXPECT_TRUE(bound.synthetic);
  EXPECT_EQ(bound.planes, (std::vector<const std::byte*>{nullptr, nullptr}));
}

TEST(Synthetic, AFolderSaysSoWithASeed) {
  const test::temp_folder folder;
  const auto write = [&](const char* text) { std::ofstream(folder.path() / synthetic_name) << text; };
  write("{\"seed\": 7}");
  const auto opened = weights::open(folder.path());
  ASSERT_TRUE(opened) << opened.error().text;
  EXPECT_EQ((*opened)->seed(), 7u);
  for (const char* wrong : {"{}", "7", "{\"seed\": -1}", "{\"seed\": \"7\"}", "{"}) {
    write(wrong);
    const auto refused = weights::open(folder.path());
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.error().code, error_code::bad_checkpoint);
    EXPECT_THAT(refused.error().text, HasSubstr("synthetic.json: expected {\"seed\": <whole number>}"));
  }
}

}  // namespace
}  // namespace troupe::checkpoint
