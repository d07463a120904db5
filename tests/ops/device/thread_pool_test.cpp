#include "ops/device/thread_pool.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "ops/device/execution.hpp"

namespace troupe::ops {
namespace {

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (unsigned threads = 1; threads <= 6; ++threads) {
    thread_pool pool(threads);
    for (const std::size_t count : {0u, 1u, 2u, 7u, 64u, 1000u}) {
      for (const std::size_t grain : {0u, 1u, 3u, 100u}) {
        std::vector<std::atomic<int>> visits(count);
        pool.parallel_for(count, grain, [&](std::size_t begin, std::size_t end, unsigned worker) {
          EXPECT_LT(worker, pool.size());
          for (std::size_t i = begin; i < end; ++i) ++visits[i];
        });
        for (const auto& visit : visits) ASSERT_EQ(visit.load(), 1);
      }
    }
  }
}

TEST(ThreadPool, RangesAreNoSmallerThanTheGrainButTheLast) {
  thread_pool pool(3);
  std::mutex guard;
  std::set<std::pair<std::size_t, std::size_t>> ranges;
  pool.parallel_for(100, 30, [&](std::size_t begin, std::size_t end, unsigned) {
    const std::lock_guard lock(guard);
    ranges.emplace(begin, end);
  });
  EXPECT_GT(ranges.size(), 1u);
  for (const auto& [begin, end] : ranges) EXPECT_TRUE(end == 100 || end - begin >= 30) << begin << " " << end;
}

TEST(ThreadPool, SmallWorkStaysOnTheCaller) {
  thread_pool pool(4);
  const auto caller = std::this_thread::get_id();
  pool.parallel_for(10, 10, [&](std::size_t, std::size_t, unsigned worker) {
    EXPECT_EQ(worker, 0u);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
}

TEST(ThreadPool, PlainWritesAreSeenAfterTheCallThroughManyJobs) {
  thread_pool pool(4);
  std::vector<long> values(257);
  for (int round = 0; round < 20000; ++round) {
    pool.parallel_for(values.size(), 8, [&](std::size_t begin, std::size_t end, unsigned) {
      for (std::size_t i = begin; i < end; ++i) values[i] += static_cast<long>(i);
    });
  }
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<long>(i) * 20000);
}

TEST(ThreadPool, WakesWorkersThatFellAsleep) {
  thread_pool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    // Every part waits until two threads are inside: only sleepers that wake can end this.
    std::atomic<int> inside{0};
    pool.parallel_for(2, 1, [&](std::size_t, std::size_t, unsigned) {
      ++inside;
      while (inside.load() < 2) std::this_thread::yield();
    });
    EXPECT_EQ(inside.load(), 2);
  }
}

TEST(Execution, ScratchIsKeptAndAligned) {
  thread_pool pool(2);
  execution context(pool);
  float* first = context.own(1).take<float>(100);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % 64, 0u);
  EXPECT_EQ(context.own(1).take<float>(50), first);
  EXPECT_EQ(context.own(1).take<std::int64_t>(75), static_cast<void*>(first));
  EXPECT_NE(context.own(0).take<float>(100), first);
}

}  // namespace
}  // namespace troupe::ops
