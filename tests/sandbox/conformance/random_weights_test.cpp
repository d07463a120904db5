#include "sandbox/conformance/random_weights.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "tests/support/temp_folder.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::conformance {
namespace {

program::verified_program tiny() {
  auto p = test::tiny_program::make();
  p.weights[1]->role = program::WeightRole::norm;
  p.weights[0]->spellings[0]->sources[0]->transpose = true;
  p.weights[0]->spellings[0]->sources[0]->tensor = "elsewhere";
  return *program::verify(test::tiny_program::bytes(p));
}

float bf16_at(const checkpoint::tensor_view& t, std::size_t i) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, t.data.data() + 2 * i, sizeof bits);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

TEST(RandomWeights, AreThereForEveryWeightOfTheProgram) {
  const auto plain = with_plain_weights(*tiny());
  ASSERT_TRUE(plain) << plain.error().text;
  const test::temp_folder folder;
  const auto files = random_weights(**plain, folder.path(), 1);
  ASSERT_TRUE(files) << files.error().text;
  for (const auto* w : *(*plain)->weights()) {
    const auto bound = checkpoint::bind(*w, **files);
    EXPECT_TRUE(bound) << bound.error().text;
  }
}

TEST(RandomWeights, AreOfASizeThatKeepsWhatGoesThroughThem) {
  const auto plain = with_plain_weights(*tiny());
  const test::temp_folder folder;
  const auto files = random_weights(**plain, folder.path(), 1);
  ASSERT_TRUE(files) << files.error().text;
  const auto& embed = *(*files)->find("embed");
  double squares = 0;
  const std::size_t count = embed.data.size() / 2;
  for (std::size_t i = 0; i < count; ++i) squares += bf16_at(embed, i) * bf16_at(embed, i);
  EXPECT_NEAR(squares / static_cast<double>(count), 1.0 / test::tiny_program::hidden, 0.02);
  const auto& norm = *(*files)->find((*plain)->weights()->Get(1)->name()->str());
  float first = 0;
  std::memcpy(&first, norm.data.data(), sizeof first);
  EXPECT_NEAR(first, 1.0F, 0.11F);
}

TEST(RandomWeights, AreTheSameForTheSameSeed) {
  const auto plain = with_plain_weights(*tiny());
  const test::temp_folder a, b, c;
  const auto one = random_weights(**plain, a.path(), 1), same = random_weights(**plain, b.path(), 1),
             other = random_weights(**plain, c.path(), 2);
  ASSERT_TRUE(one && same && other);
  EXPECT_TRUE(std::ranges::equal((*one)->find("embed")->data, (*same)->find("embed")->data));
  EXPECT_FALSE(std::ranges::equal((*one)->find("embed")->data, (*other)->find("embed")->data));
}

}  // namespace
}  // namespace troupe::conformance
