// A stop lets open requests finish, up to its deadline.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <caf/actor_control_block.hpp>
#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>
#include <chrono>
#include <fstream>
#include <future>
#include <iterator>
#include <string>
#include <thread>

#include "kernel/supervision/supervisor.hpp"
#include "tests/support/demo_server.hpp"

namespace troupe::test {
namespace {

using namespace std::chrono_literals;

error_code outcome_of(client::stream& stream) {
  try {
    read_all(stream);
    return error_code::none;
  } catch (const client::failure& f) {
    return f.code();
  }
}

// A stream that has brought its first piece.
client::stream open_stream(const client::connection& server, std::uint32_t tokens) {
  auto stream = server.generate(long_request(tokens));
  EXPECT_TRUE(stream.next(patience));
  return stream;
}

TEST(Drain, LetsAnOpenStreamFinish) {
  demo_server running;
  const auto server = running.connect();
  auto reference = server.generate(long_request(200));
  const std::string expected = read_all(reference);
  auto stream = server.generate(long_request(200));
  std::string text = stream.next(patience)->text;
  auto drained = std::async(std::launch::async, [&] { return running->drain_and_stop(patience); });
  text += read_all(stream);
  EXPECT_EQ(text, expected);
  EXPECT_TRUE(drained.get());
}

TEST(Drain, RefusesNewRequestsMeanwhile) {
  demo_server running;
  const auto server = running.connect();
  auto open = open_stream(server, 20'000);
  auto drained = std::async(std::launch::async, [&] { return running->drain_and_stop(patience); });
  error_code code = error_code::none;
  for (int i = 0; i < 100 && code == error_code::none; ++i) {  // until the drain has begun
    auto late = server.generate(long_request(1));
    code = outcome_of(late);
  }
  EXPECT_EQ(code, error_code::shutting_down);
  open.cancel();
  EXPECT_EQ(outcome_of(open), error_code::none);
  EXPECT_TRUE(drained.get());
}

TEST(Drain, EndsWhatIsLeftAtTheDeadlineWithATypedError) {
  demo_server running;
  const auto server = running.connect();
  auto stream = open_stream(server, 30'000);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(running->drain_and_stop(200ms));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  EXPECT_EQ(outcome_of(stream), error_code::shutting_down);
}

TEST(Drain, IsCutShortByStopNow) {
  demo_server running;
  const auto server = running.connect();
  auto stream = open_stream(server, 30'000);
  auto drained = std::async(std::launch::async, [&] { return running->drain_and_stop(10min); });
  std::this_thread::sleep_for(100ms);
  const auto begin = std::chrono::steady_clock::now();
  running->stop_now();
  EXPECT_FALSE(drained.get());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
  EXPECT_EQ(outcome_of(stream), error_code::shutting_down);
}

TEST(Drain, EndsWhenTheGatewayDiesMeanwhile) {
  demo_server running;
  const auto server = running.connect();
  auto stream = open_stream(server, 30'000);
  auto drained = std::async(std::launch::async, [&] { return running->drain_and_stop(10min); });
  std::this_thread::sleep_for(100ms);
  const auto begin = std::chrono::steady_clock::now();
  supervision::stop(running->actors().find("gateway"), caf::exit_reason::kill);
  EXPECT_FALSE(drained.get());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
}

// The gateway keeps the deadline, so it is the one whose silence would be waited for.
TEST(Drain, GoesOnWithoutAGatewayThatDoesNotAnswer) {
  demo_server running;
  const auto server = running.connect();
  auto stream = open_stream(server, 30'000);
  temp_folder logs;
  ASSERT_TRUE(log::configure({.file = logs.path() / "log"}));
  std::atomic<bool> over{false};
  auto& system = *running->actors().find("gateway")->home_system;
  for (int i = 0; i < 2; ++i)  // all threads that it could run on
    system.spawn([&over] {
      while (!over) std::this_thread::sleep_for(1ms);
    });
  auto drained = std::async(std::launch::async, [&] { return running->drain_and_stop(100ms); });
  const auto end = std::chrono::steady_clock::now() + 30s;
  const auto told = [&] {
    std::ifstream file(logs.path() / "log");
    const std::string text(std::istreambuf_iterator<char>(file), {});
    return text.find("the gateway does not drain") != text.npos;
  };
  while (!told() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(10ms);
  EXPECT_TRUE(told());
  over = true;
  EXPECT_FALSE(drained.get());
  (void)log::configure({.least = log::level::off});
}

TEST(Drain, OfAnIdleServerIsOverAtOnce) {
  demo_server running;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(running->drain_and_stop(10min));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
}

TEST(Drain, IsNotNeededToDestroyAServerWithOpenStreams) {
  demo_server running;
  const auto server = running.connect();
  auto stream = open_stream(server, 30'000);
  running.destroy();
  EXPECT_EQ(outcome_of(stream), error_code::shutting_down);
}

}  // namespace
}  // namespace troupe::test
