// A short, repeatable run of what scripts/fuzz does for longer and with more insight.
#include <gtest/gtest.h>

#include <chrono>

#include "tests/fuzz/program_mutator.hpp"

namespace troupe::fuzz {
namespace {

constexpr int rounds = 4000;

TEST(FuzzedPrograms, AreJudgedAndWhatIsAcceptedCanBeShown) {
  std::mt19937_64 random(20260101);
  std::vector<bytes> known = {seed_program()};
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    auto changed = mutate(known[random() % known.size()], random, std::size_t{1} << 20);
    if (!check(changed)) continue;
    ++accepted;
    if (known.size() < 64)
      known.push_back(std::move(changed));
    else
      known[random() % known.size()] = std::move(changed);
  }
  // Neither a mutator that changes nothing nor one that only makes rubbish finds anything.
  EXPECT_GT(accepted, rounds / 50);
  EXPECT_LT(accepted, rounds);
}

TEST(FuzzedPrograms, AreCutAnywhere) {
  const auto whole = seed_program();
  for (std::size_t size = 0; size < whole.size(); size += 7)
    EXPECT_FALSE(check(std::span(whole).first(size))) << size;
}

}  // namespace
}  // namespace troupe::fuzz
