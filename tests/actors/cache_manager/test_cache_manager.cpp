#include <gtest/gtest.h>

#include <numeric>

#include "actors/cache_manager/cache_manager.hpp"
#include "tests/support/engine_actors.hpp"

namespace troupe {
namespace {

// Speaks as the schedulers of several models, each with a scoped actor of its own.
class CacheManager : public ::testing::Test {
 protected:
  CacheManager() { start(true); }
  ~CacheManager() override {
    w.stop(caf::actor_cast<caf::actor>(cache));
    w.run_all();
  }

  void start(bool prefix_caching) {
    if (cache) w.stop(caf::actor_cast<caf::actor>(cache));
    cache =
        spawn_cache_manager(w.system, {.blocks = 8, .block_bytes = 512, .prefix_caching = prefix_caching});
    tell_model(0, 100);
  }
  void tell_model(std::uint32_t model, std::uint64_t pool) {
    wire::ModelLoadedT m;
    m.model = model;
    m.block_tokens = 4;
    m.pool = pool;
    caf::anon_send(cache, message<wire::ModelLoaded>::pack(m));
    w.run_all();
  }
  wire::LeaseT lease(std::uint64_t sequence, std::uint32_t tokens, std::vector<std::int32_t> prefix = {}) {
    wire::LeaseT l;
    l.pool = 100;
    l.incarnation = 1;
    add(l, sequence, tokens, std::move(prefix));
    return l;
  }
  static void add(wire::LeaseT& l, std::uint64_t sequence, std::uint32_t tokens,
                  std::vector<std::int32_t> prefix = {}) {
    auto item = std::make_unique<wire::LeaseItemT>();
    item->sequence = sequence;
    item->tokens = tokens;
    item->prefix_ids = std::move(prefix);
    l.items.push_back(std::move(item));
  }
  wire::LeaseGrantedT ask(caf::scoped_actor& self, const wire::LeaseT& l) {
    wire::LeaseGrantedT out;
    auto response = self->request(cache, caf::infinite, message<wire::Lease>::pack(l));
    w.run_all();
    response.receive([&](const message<wire::LeaseGranted>& g) { g->UnPackTo(&out); },
                     [](const caf::error&) { FAIL(); });
    return out;
  }
  wire::LeaseGrantedT ask(const wire::LeaseT& l) { return ask(scheduler, l); }
  void release(std::uint64_t sequence, std::vector<std::int32_t> computed = {}) {
    wire::ReleaseT r;
    r.items.push_back(std::make_unique<wire::ReleaseItemT>());
    r.items[0]->sequence = sequence;
    r.items[0]->computed_ids = std::move(computed);
    scheduler->send(cache, message<wire::Release>::pack(r));
    w.run_all();
  }
  std::uint32_t free_blocks() { return w.ask<wire::CacheStatus>(cache)->free_blocks(); }

  test::engine_actors w;
  caf::scoped_actor scheduler{w.system};
  cache_manager_actor cache;
};

std::vector<std::int32_t> ids(std::size_t count) {
  std::vector<std::int32_t> x(count);
  std::iota(x.begin(), x.end(), 10);
  return x;
}

TEST_F(CacheManager, GrantsBlocksAndTellsHowManyAreLeft) {
  auto l = lease(1, 9);
  add(l, 2, 4);
  const auto answer = ask(l);
  ASSERT_EQ(answer.grants.size(), 4u);
  EXPECT_EQ(answer.grants[2].sequence(), 1u);
  EXPECT_EQ(answer.grants[3].sequence(), 2u);
  EXPECT_EQ(answer.free_blocks, 4u);
  EXPECT_TRUE(answer.refused.empty());
  EXPECT_GT(answer.epoch, 0u);
}

TEST_F(CacheManager, RefusesWhatDoesNotFitAndAllBehindIt) {
  auto l = lease(1, 16);
  add(l, 2, 20);
  add(l, 3, 4);  // would fit, but must not overtake
  const auto answer = ask(l);
  EXPECT_EQ(answer.grants.size(), 4u);
  EXPECT_EQ(answer.refused, (std::vector<std::uint64_t>{2, 3}));
  EXPECT_EQ(ask(lease(3, 4)).refused.size(), 0u);
}

TEST_F(CacheManager, RefusesAModelThatItWasNotToldOf) {
  auto l = lease(1, 4);
  l.model = 5;
  EXPECT_EQ(ask(l).refused.size(), 1u);
}

TEST_F(CacheManager, ReportsItsStateAndKeepsPrefixes) {
  ask(lease(1, 10, ids(10)));
  release(1, ids(10));
  const auto status = w.ask<wire::CacheStatus>(cache);
  EXPECT_EQ(status->blocks(), 8u);
  EXPECT_EQ(status->free_blocks(), 8u);
  EXPECT_EQ(status->cached_blocks(), 2u);
  EXPECT_EQ(status->block_bytes(), 512u);
  EXPECT_EQ(status->block_tokens(), 4u);
  const auto answer = ask(lease(2, 10, ids(10)));
  EXPECT_EQ(answer.grants[1].cached(), 1);
  EXPECT_EQ(answer.grants[2].cached(), 0);
}

TEST_F(CacheManager, KeepsNoPrefixesIfToldSo) {
  start(false);
  ask(lease(1, 10, ids(10)));
  release(1, ids(10));
  EXPECT_EQ(w.ask<wire::CacheStatus>(cache)->cached_blocks(), 0u);
}

TEST_F(CacheManager, ForgetsEverythingWithTheFirstWordOfANewPool) {
  ask(lease(1, 10, ids(10)));
  release(1, ids(10));
  ask(lease(2, 8));
  auto l = lease(3, 10, ids(10));
  l.pool = 101;
  const auto answer = ask(l);
  ASSERT_EQ(answer.grants.size(), 3u);
  EXPECT_EQ(answer.grants[0].cached(), 0);
  EXPECT_EQ(answer.free_blocks, 5u);
}

TEST_F(CacheManager, KeepsTheLeasesOfANewPoolWhenItIsAnnouncedLate) {
  auto l = lease(1, 12);
  l.pool = 101;
  ask(l);
  tell_model(0, 101);
  tell_model(0, 100);
  w.tell_peer(cache, "executor");
  w.run_all();
  EXPECT_EQ(free_blocks(), 5u);
}

TEST_F(CacheManager, RefusesLeasesForAPoolThatIsGone) {
  tell_model(0, 101);
  EXPECT_EQ(ask(lease(1, 4)).refused.size(), 1u);
  EXPECT_EQ(free_blocks(), 8u);
}

TEST_F(CacheManager, TakesBackWhatAFormerIncarnationOfASchedulerHeld) {
  ask(lease(1, 12));
  auto l = lease(1, 4);
  l.incarnation = 2;
  EXPECT_EQ(ask(l).free_blocks, 7u);
}

// The former one may have had them computed by a version on probation.
TEST_F(CacheManager, GivesNoPrefixOfAFormerIncarnationToTheNext) {
  ask(lease(1, 12, ids(12)));
  release(1, ids(12));
  ASSERT_GT(ask(lease(2, 12, ids(12))).grants.at(0).cached(), 0);
  auto l = lease(3, 12, ids(12));
  l.incarnation = 2;
  EXPECT_EQ(ask(l).grants.at(0).cached(), 0);
}

TEST_F(CacheManager, TakesBackWhatASchedulerHeldThatHasEnded) {
  tell_model(1, 100);
  ask(lease(1, 12));
  {
    caf::scoped_actor other{w.system};
    auto l = lease(1, 8);
    l.model = 1;
    EXPECT_EQ(ask(other, l).free_blocks, 3u);
  }
  w.run_all();
  EXPECT_EQ(free_blocks(), 5u);
}

}  // namespace
}  // namespace troupe
