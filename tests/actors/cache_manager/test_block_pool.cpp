#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "actors/cache_manager/block_pool.hpp"

namespace troupe {
namespace {

constexpr model_id model{0};
constexpr model_id other_model{1};

std::vector<std::int32_t> ids(std::int32_t first, std::size_t count) {
  std::vector<std::int32_t> x(count);
  std::iota(x.begin(), x.end(), first);
  return x;
}

class BlockPool : public ::testing::Test {
 protected:
  BlockPool() : pool({.blocks = 8, .prefix_caching = true}) {
    pool.set_block_tokens(model, 4);
    pool.set_block_tokens(other_model, 4);
  }

  bool lease(std::uint64_t sequence, std::uint32_t tokens, const std::vector<std::int32_t>& prefix = {},
             model_id of = model) {
    granted.clear();
    return pool.lease({of, {sequence}}, tokens, prefix, granted);
  }
  void release(std::uint64_t sequence, const std::vector<std::int32_t>& computed = {}, model_id of = model) {
    pool.release({of, {sequence}}, computed);
  }
  std::size_t cached() const {
    return static_cast<std::size_t>(std::ranges::count_if(granted, [](const auto& g) { return g.cached; }));
  }

  block_pool pool;
  std::vector<granted_block> granted;
};

TEST_F(BlockPool, GivesWhatAnotherLeaseLacksAndNoMore) {
  ASSERT_TRUE(lease(1, 5));
  EXPECT_EQ(granted.size(), 2u);
  ASSERT_TRUE(lease(1, 8));
  EXPECT_EQ(granted.size(), 0u);
  ASSERT_TRUE(lease(1, 9));
  EXPECT_EQ(granted.size(), 1u);
  EXPECT_EQ(pool.free_blocks(), 5u);
}

TEST_F(BlockPool, GivesAllOrNothing) {
  ASSERT_TRUE(lease(1, 24));
  EXPECT_FALSE(lease(2, 12));
  EXPECT_TRUE(granted.empty());
  EXPECT_EQ(pool.free_blocks(), 2u);
  EXPECT_TRUE(lease(2, 8));
}

TEST_F(BlockPool, RefusesAModelWhoseBlocksItDoesNotKnow) {
  EXPECT_FALSE(lease(1, 1, {}, model_id{7}));
  pool.set_block_tokens(model_id{7}, 16);
  EXPECT_TRUE(lease(1, 17, {}, model_id{7}));
  EXPECT_EQ(granted.size(), 2u);
}

TEST_F(BlockPool, IgnoresTheReleaseOfAnUnknownSequence) {
  release(99, ids(0, 8));
  EXPECT_EQ(pool.free_blocks(), 8u);
  EXPECT_EQ(pool.cached_blocks(), 0u);
}

TEST_F(BlockPool, FindsThePrefixThatAnotherSequenceComputed) {
  const auto prompt = ids(100, 10);
  ASSERT_TRUE(lease(1, 10, prompt));
  EXPECT_EQ(cached(), 0u);
  release(1, prompt);
  EXPECT_EQ(pool.cached_blocks(), 2u);  // the third block is not whole
  EXPECT_EQ(pool.free_blocks(), 8u);
  ASSERT_TRUE(lease(2, 10, prompt));
  EXPECT_EQ(cached(), 2u);
  EXPECT_EQ(granted.size(), 3u);
  EXPECT_TRUE(granted[0].cached && granted[1].cached && !granted[2].cached);
}

TEST_F(BlockPool, LeavesAtLeastOneTokenOfThePromptToCompute) {
  const auto prompt = ids(100, 8);
  ASSERT_TRUE(lease(1, 8, prompt));
  release(1, prompt);
  ASSERT_TRUE(lease(2, 8, prompt));
  EXPECT_EQ(cached(), 1u);
}

TEST_F(BlockPool, SharesACachedPrefixAmongSequencesThatRunTogether) {
  const auto prompt = ids(100, 9);
  ASSERT_TRUE(lease(1, 9, prompt));
  release(1, prompt);
  ASSERT_TRUE(lease(2, 9, prompt));
  const block_id shared = granted[0].block;
  ASSERT_TRUE(lease(3, 9, prompt));
  EXPECT_EQ(granted[0].block, shared);
  EXPECT_EQ(pool.free_blocks(), 8u - 2 - 2);
  release(2, prompt);
  EXPECT_EQ(pool.held({model, {3}})[0], shared);
  EXPECT_EQ(pool.inconsistency(), nullptr);
}

TEST_F(BlockPool, MatchesAPrefixOnlyInTheFirstLeaseOfASequence) {
  const auto prompt = ids(100, 9);
  ASSERT_TRUE(lease(1, 9, prompt));
  release(1, prompt);
  ASSERT_TRUE(lease(2, 1));
  ASSERT_TRUE(lease(2, 9, prompt));
  EXPECT_EQ(cached(), 0u);
}

TEST_F(BlockPool, NeverSharesAcrossModelsOrBehindAnotherBeginning) {
  ASSERT_TRUE(lease(1, 9, ids(100, 9)));
  release(1, ids(100, 9));
  ASSERT_TRUE(lease(1, 9, ids(100, 9), other_model));
  EXPECT_EQ(cached(), 0u);
  auto changed = ids(100, 9);
  changed[0] = 5;  // the second block's own ids are the same
  ASSERT_TRUE(lease(2, 9, changed));
  EXPECT_EQ(cached(), 0u);
}

TEST_F(BlockPool, KeepsNothingIfPrefixCachingIsOff) {
  block_pool plain({.blocks = 4, .prefix_caching = false});
  plain.set_block_tokens(model, 4);
  std::vector<granted_block> out;
  ASSERT_TRUE(plain.lease({model, {1}}, 9, ids(0, 9), out));
  plain.release({model, {1}}, ids(0, 9));
  EXPECT_EQ(plain.cached_blocks(), 0u);
  EXPECT_EQ(plain.free_blocks(), 4u);
}

TEST_F(BlockPool, GivesUpTheLeastRecentlyUsedPrefixFirst) {
  ASSERT_TRUE(lease(1, 12, ids(100, 12)));
  release(1, ids(100, 12));
  ASSERT_TRUE(lease(2, 12, ids(200, 12)));
  release(2, ids(200, 12));
  ASSERT_TRUE(lease(3, 13, ids(100, 13)));  // makes the first one the younger
  release(3, ids(100, 12));
  ASSERT_TRUE(lease(4, 16));  // two empty blocks and two of the second prefix
  EXPECT_EQ(pool.cached_blocks(), 4u);
  ASSERT_TRUE(lease(5, 13, ids(100, 13)));
  EXPECT_EQ(cached(), 3u);
}

TEST_F(BlockPool, GivesUpTheEndOfAPrefixBeforeItsBeginning) {
  ASSERT_TRUE(lease(1, 32, ids(100, 32)));
  release(1, ids(100, 32));
  ASSERT_TRUE(lease(2, 12));
  release(2);
  ASSERT_TRUE(lease(3, 32, ids(100, 32)));
  EXPECT_EQ(cached(), 5u);
}

TEST_F(BlockPool, EvictsAPrefixEnteredBehindATwinBeforeTheTwin) {
  ASSERT_TRUE(lease(1, 4, ids(100, 4)));
  ASSERT_TRUE(lease(2, 8, ids(100, 8)));  // computes the same first block again
  release(1, ids(100, 4));
  release(2, ids(100, 8));
  EXPECT_EQ(pool.cached_blocks(), 2u);
  ASSERT_TRUE(lease(3, 28));
  release(3);
  ASSERT_TRUE(lease(4, 9, ids(100, 9)));
  EXPECT_EQ(cached(), 1u);
}

TEST_F(BlockPool, CountsMatchedPrefixesOnceWhenRoomIsShort) {
  ASSERT_TRUE(lease(1, 16, ids(100, 16)));
  release(1, ids(100, 16));   // 4 cached, 4 free
  ASSERT_TRUE(lease(2, 16));  // the 4 free ones
  EXPECT_FALSE(lease(3, 20, ids(100, 20)));
  EXPECT_EQ(pool.free_blocks(), 4u);
  EXPECT_TRUE(lease(3, 16, ids(100, 16)));
  EXPECT_EQ(pool.free_blocks(), 0u);
}

TEST_F(BlockPool, ForgetsAModelsSequencesAndKeepsItsPrefixes) {
  ASSERT_TRUE(lease(1, 8, ids(100, 8)));
  release(1, ids(100, 8));
  ASSERT_TRUE(lease(2, 12));
  ASSERT_TRUE(lease(3, 4, {}, other_model));
  pool.release_model(model);
  EXPECT_EQ(pool.sequences(), 1u);
  EXPECT_EQ(pool.free_blocks(), 7u);
  ASSERT_TRUE(lease(4, 8, ids(100, 8)));
  EXPECT_EQ(cached(), 1u);
}

TEST_F(BlockPool, ForgetsEverything) {
  ASSERT_TRUE(lease(1, 9, ids(100, 9)));
  release(1, ids(100, 9));
  ASSERT_TRUE(lease(2, 9, ids(100, 9)));
  pool.forget();
  EXPECT_EQ(pool.free_blocks(), 8u);
  EXPECT_EQ(pool.cached_blocks(), 0u);
  ASSERT_TRUE(lease(2, 9, ids(100, 9)));
  EXPECT_EQ(cached(), 0u);
  EXPECT_EQ(granted.size(), 3u);
}

TEST_F(BlockPool, ForgetsPrefixesOfAModelWhoseBlocksChangeTheirSize) {
  ASSERT_TRUE(lease(1, 8, ids(100, 8)));
  release(1, ids(100, 8));
  pool.set_block_tokens(model, 2);
  EXPECT_EQ(pool.cached_blocks(), 0u);
  EXPECT_EQ(pool.inconsistency(), nullptr);
}

// Sequences of a few families of prompts come, grow and go. `contents` remembers what was computed into each
// block, as K/V memory would: a block granted as cached must hold exactly the tokens of that position and all
// before it.
TEST(BlockPoolProperty, StaysConsistentAndNeverGrantsWrongContentsUnderRandomOperations) {
  struct live {
    std::vector<std::int32_t> tokens;
    std::uint32_t computed = 0;
  };
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const std::uint32_t size = 1 + random() % 5;
    block_pool pool({.blocks = 4 + static_cast<std::uint32_t>(random() % 40), .prefix_caching = true});
    for (std::uint32_t m = 0; m < 2; ++m) pool.set_block_tokens({m}, size);
    std::map<sequence_key, live> sequences;
    std::map<std::uint32_t, std::vector<std::int32_t>>
        contents;  // block -> model, then all tokens up to its end
    std::uint64_t next = 1;

    auto compute = [&](sequence_key key, live& s) {  // fills blocks that are held and not yet written
      const auto table = pool.held(key);
      while (s.computed < s.tokens.size() && s.computed / size < table.size()) {
        auto& c = contents[table[s.computed / size].value];
        if (s.computed % size == 0) {
          c.assign(1, static_cast<std::int32_t>(key.model.value));
          c.insert(c.end(), s.tokens.begin(), s.tokens.begin() + s.computed);
        }
        c.push_back(s.tokens[s.computed++]);
      }
    };
    for (int round = 0; round < 2000; ++round) {
      std::vector<granted_block> out;
      const auto dice = random() % 10;
      if (dice < 4) {
        const sequence_key key{{static_cast<std::uint32_t>(random() % 2)}, {next++}};
        live s;
        for (std::size_t n = 1 + random() % 30; s.tokens.size() < n;)
          s.tokens.push_back(static_cast<std::int32_t>(
              s.tokens.size() < 12 ? s.tokens.size() + random() % 4 / 3 : random() % 3));
        const auto before = pool.free_blocks();
        if (!pool.lease(key, static_cast<std::uint32_t>(s.tokens.size()), s.tokens, out)) {
          ASSERT_EQ(pool.free_blocks(), before);
          ASSERT_TRUE(out.empty());
          continue;
        }
        std::vector<std::int32_t> expected{static_cast<std::int32_t>(key.model.value)};
        for (std::size_t i = 0; i < out.size() && out[i].cached; ++i) {
          expected.insert(expected.end(), s.tokens.begin() + static_cast<std::ptrdiff_t>(i * size),
                          s.tokens.begin() + static_cast<std::ptrdiff_t>((i + 1) * size));
          ASSERT_EQ(contents[out[i].block.value], expected);
          s.computed += size;
        }
        ASSERT_LT(s.computed, s.tokens.size());
        compute(key, sequences[key] = s);
      } else if (!sequences.empty()) {
        auto i = std::next(sequences.begin(), static_cast<std::ptrdiff_t>(random() % sequences.size()));
        if (dice < 7) {
          for (auto n = random() % 6; n > 0; --n)
            i->second.tokens.push_back(static_cast<std::int32_t>(random() % 3));
          pool.lease(i->first, static_cast<std::uint32_t>(i->second.tokens.size()), {}, out);
          compute(i->first, i->second);
        } else if (dice < 9 || random() % 50 != 0) {
          const std::size_t known =
              random() % 4 == 0 ? random() % (i->second.computed + 1) : i->second.computed;
          pool.release(i->first, std::span(i->second.tokens).first(known));
          sequences.erase(i);
        } else if (random() % 2 == 0) {
          const model_id gone = i->first.model;
          pool.release_model(gone);
          std::erase_if(sequences, [&](const auto& x) { return x.first.model == gone; });
        } else {
          pool.forget();
          sequences.clear();
        }
      }
      ASSERT_EQ(pool.inconsistency(), nullptr) << "seed " << seed << " round " << round;
      std::set<std::uint32_t> distinct;
      for (const auto& [key, s] : sequences)
        for (block_id b : pool.held(key)) distinct.insert(b.value);
      ASSERT_EQ(pool.blocks() - pool.free_blocks(), distinct.size());
      ASSERT_EQ(pool.sequences(), sequences.size());
    }
    for (const auto& [key, s] : sequences) pool.release(key, {});
    EXPECT_EQ(pool.free_blocks(), pool.blocks());
  }
}

TEST_F(BlockPool, ForgetsAModelWithItsSequencesAndPrefixes) {
  ASSERT_TRUE(lease(1, 8));
  release(1, ids(0, 8));
  ASSERT_TRUE(lease(2, 12));
  ASSERT_TRUE(lease(3, 4, {}, other_model));
  EXPECT_EQ(pool.forget_model(model), 5u);
  EXPECT_EQ(pool.cached_blocks(), 0u);
  EXPECT_EQ(pool.free_blocks(), 7u);
  EXPECT_FALSE(pool.knows(model));
  EXPECT_EQ(pool.held({other_model, {3}}).size(), 1u);
  EXPECT_EQ(pool.inconsistency(), nullptr);
  EXPECT_EQ(pool.forget_model(model), 0u);
}

}  // namespace
}  // namespace troupe
