#include "ops/device/memory_plan.hpp"

#include <gtest/gtest.h>

#include <random>

namespace troupe::ops {
namespace {

bool lives_meet(const tensor_life& a, const tensor_life& b) {
  return a.first <= b.last && b.first <= a.last;
}

TEST(MemoryPlan, TensorsWhoseLivesMeetNeverOverlap) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<tensor_life> tensors;
    for (int i = 0; i < 30; ++i) {
      const std::size_t first = random() % 40;
      tensors.push_back({random() % 4 == 0, 1 + random() % 300, first, first + random() % 12});
    }
    auto plan = memory_plan::sharing(tensors);
    std::vector<std::size_t> offsets(tensors.size());
    const std::size_t tokens = 1 + random() % 20, logit_rows = random() % 5;
    const std::size_t size = plan.place(tokens, logit_rows, offsets);
    const auto end = [&](std::size_t i) {
      return offsets[i] + (tensors[i].logit_rows ? logit_rows : tokens) * tensors[i].width;
    };
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      ASSERT_LE(end(i), size);
      for (std::size_t j = 0; j < i; ++j) {
        if (!lives_meet(tensors[i], tensors[j])) continue;
        ASSERT_TRUE(end(i) <= offsets[j] || end(j) <= offsets[i]) << i << " and " << j;
      }
    }
  }
}

TEST(MemoryPlan, AChainNeedsTwoPlaces) {
  std::vector<tensor_life> chain;
  for (std::size_t i = 0; i < 50; ++i) chain.push_back({false, 64, i, i + 1});
  EXPECT_EQ(memory_plan::sharing(chain).places(), 2u);
}

TEST(MemoryPlan, SeparateGivesEveryTensorItsOwnPlace) {
  std::vector<tensor_life> chain;
  for (std::size_t i = 0; i < 50; ++i) chain.push_back({false, 64, i, i + 1});
  EXPECT_EQ(memory_plan::separate(chain).places(), 50u);
}

}  // namespace
}  // namespace troupe::ops
