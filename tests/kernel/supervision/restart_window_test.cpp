#include "kernel/supervision/restart_window.hpp"

#include <gtest/gtest.h>

namespace {

using namespace troupe::supervision;
using namespace std::chrono_literals;

TEST(RestartWindow, AllowsAsManyAsItSays) {
  restart_window w(2, 10s);
  const restart_window::time_point start{};
  EXPECT_TRUE(w.allow(start));
  EXPECT_TRUE(w.allow(start + 1s));
  EXPECT_FALSE(w.allow(start + 2s));
}

TEST(RestartWindow, ForgetsWhatIsOlderThanItsSpan) {
  restart_window w(2, 10s);
  const restart_window::time_point start{};
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(w.allow(start + i * 5s)) << i;
  EXPECT_FALSE(w.allow(start + 99 * 5s + 1s));
}

TEST(RestartWindow, AllowsNoneIfNoneIsAllowed) {
  restart_window w(0, 10s);
  EXPECT_FALSE(w.allow({}));
}

}  // namespace
