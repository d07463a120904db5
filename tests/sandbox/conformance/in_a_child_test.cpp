#include "sandbox/conformance/in_a_child.hpp"

#include <gmock/gmock.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <thread>

#include "tests/sandbox/conformance/segmentation_fault.hpp"

namespace troupe::conformance {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr child_limits generous = {60s, 30s};

TEST(InAChild, GivesWhatTheWorkReturns) {
  const std::string large(300'000, 'x');
  const auto answer = in_a_child([&](const sign_of_life&) { return large; }, generous);
  EXPECT_EQ(answer.end, "");
  EXPECT_EQ(answer.text, large);
}

TEST(InAChild, TellsHowItEndedAndWhatItHadBegun) {
  int heard = 0;
  const auto answer = in_a_child(
      [](const sign_of_life& alive) -> std::string {
        alive("the first");
        alive("the second");
        alive("");
        ::raise(SIGSEGV);
        return "never";
      },
      generous, [&] { ++heard; });
  EXPECT_THAT(answer.end, ends_with_a_segmentation_fault());
  EXPECT_EQ(answer.last, "the second");
  EXPECT_EQ(heard, 3);
}

TEST(InAChild, TellsOfExceptions) {
  const auto thrown = [](const sign_of_life&) -> std::string { throw std::runtime_error("thrown inside"); };
  EXPECT_EQ(in_a_child(thrown, generous).end, "ended with an exception: thrown inside");
  const auto greedy = [](const sign_of_life&) -> std::string { throw std::bad_alloc(); };
  EXPECT_THAT(in_a_child(greedy, generous).end, HasSubstr("needs more memory than there is"));
}

TEST(InAChild, TellsWhatIsFitForTerminalsAndJson) {
  const auto thrown = [](const sign_of_life& alive) -> std::string {
    alive("a case \x1b[31m");
    throw std::runtime_error("not \xff UTF-8");
  };
  const auto answer = in_a_child(thrown, generous);
  EXPECT_EQ(answer.end, "ended with an exception: not ? UTF-8");
  EXPECT_EQ(answer.last, "a case  [31m");
}

TEST(InAChild, TellsOfAnEndWithoutAnAnswer) {
  const auto leaves = [](const sign_of_life&) -> std::string { ::_exit(0); };
  EXPECT_EQ(in_a_child(leaves, generous).end, "ended its process with code 0");
}

TEST(InAChild, EndsWhatUsesTooMuchOfTheProcessor) {
  const auto loops = [](const sign_of_life&) -> std::string {
    const volatile bool goes_on = true;
    while (goes_on) {
    }
    return "never";
  };
  EXPECT_EQ(in_a_child(loops, {60s, 1s}).end, "timed out: used 1 s of processor time");
}

TEST(InAChild, EndsWhatWaitsForEver) {
  const auto waits = [](const sign_of_life&) -> std::string {
    std::this_thread::sleep_for(1h);
    return "";
  };
  EXPECT_EQ(in_a_child(waits, {500ms, 60s}).end, "timed out: did not go on within 0.5 s");
}

// A pipe of the test tells when the last process that holds its other end is gone.
TEST(InAChild, EndsWithAllThatItHasStarted) {
  for (const bool answers : {true, false}) {
    std::array<int, 2> ends = {};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const auto begin = std::chrono::steady_clock::now();
    const auto starts_another = [&](const sign_of_life&) -> std::string {
      if (::fork() == 0) ::pause();
      if (!answers) ::_exit(3);
      return "done";
    };
    const auto answer = in_a_child(starts_another, {30s, 30s});
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s) << "waits for the child, not for its children";
    EXPECT_EQ(answer.text, answers ? "done" : "");
    EXPECT_EQ(answer.end, answers ? "" : "ended its process with code 3");
    ::close(ends[1]);
    pollfd held = {ends[0], POLLIN, 0};
    EXPECT_EQ(::poll(&held, 1, 10'000), 1) << "what the child has started goes on";
    ::close(ends[0]);
  }
}

TEST(InAChild, EndsWhatClosesItsPipeAndGoesOn) {
  const auto hides = [](const sign_of_life&) -> std::string {
    for (int file = 3; file < 1024; ++file) ::close(file);
    std::this_thread::sleep_for(1h);
    return "";
  };
  EXPECT_EQ(in_a_child(hides, {500ms, 60s}).end, "timed out: did not go on within 0.5 s");
}

TEST(InAChild, LetsWorkTakeLongThatShowsThatItGoesOn) {
  const auto slow = [](const sign_of_life& alive) -> std::string {
    for (int i = 0; i < 8; ++i) {
      std::this_thread::sleep_for(250ms);
      alive("");
    }
    return "done";
  };
  EXPECT_EQ(in_a_child(slow, {1500ms, 60s}).text, "done");
}

}  // namespace
}  // namespace troupe::conformance
