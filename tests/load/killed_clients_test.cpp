// Clients that vanish in mid-stream cost nothing that lasts.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/server_process.hpp"
#include "troupe/client.hpp"

namespace troupe {
namespace {

// A client process that streams without end. Its first byte on the pipe says that a chunk has arrived.
struct victim {
  pid_t pid = -1;
  int pipe = -1;
};

victim start_victim(const std::string& endpoint, const std::string& words = "0") {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  std::string program = TROUPE_ENDLESS_CLIENT;
  std::string argument = endpoint;
  std::string more = words;
  std::array<char*, 4> argv{program.data(), argument.data(), more.data(), nullptr};
  victim v;
  EXPECT_EQ(posix_spawn(&v.pid, program.c_str(), &actions, nullptr, argv.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  v.pipe = ends[0];
  return v;
}

void wait_for_chunk(const victim& v) {
  pollfd wait{v.pipe, POLLIN, 0};
  ASSERT_EQ(::poll(&wait, 1, 30'000), 1) << "no chunk arrived";
  char byte = 0;
  ASSERT_EQ(::read(v.pipe, &byte, 1), 1) << "the client ended before a chunk arrived";
}

void kill(victim& v) {
  ::kill(v.pid, SIGKILL);
  ::waitpid(v.pid, nullptr, 0);
  ::close(v.pipe);
}

bool all_free(const client::connection& server, std::chrono::milliseconds within) {
  const auto end = std::chrono::steady_clock::now() + within;
  do {
    const auto status = server.status();
    if (status.cache.free_blocks == status.cache.blocks && status.open_requests == 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// What is measured is what the server keeps. One arena for all threads: else each thread's arena keeps what it once needed, and
// the sum grows for a while under load. Sanitizers keep books of their own; the address sanitizer keeps freed memory itself,
// 256 MiB by default, to catch late uses, and has a zone around each block; the thread sanitizer has a shadow of all that was touched.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t allowed_growth = std::uint64_t{16} << 20;
#else
constexpr std::uint64_t allowed_growth = std::uint64_t{2} << 20;
#endif
void keep_freed_memory_small() {
  ::setenv("MALLOC_ARENA_MAX", "1", 1);
  const char* given = std::getenv("ASAN_OPTIONS");
  const std::string mine = "quarantine_size_mb=1:thread_local_quarantine_size_kb=16";
  ::setenv("ASAN_OPTIONS", (given == nullptr ? mine : given + (":" + mine)).c_str(), 1);
}

TEST(KilledClients, LeaveThePoolFullAndTheProcessNoLarger) {
  constexpr int rounds = 250;
  constexpr int at_once = 4;
  keep_freed_memory_small();
  test::server_process server(
      {"--model", TROUPE_SOURCE_DIR "/demo/mixtral-demo", "--set", "cache.memory=8MiB"});
  const auto watcher = client::connect(server.endpoint());
  // The pool's memory becomes resident as its blocks are first used: how many of them the short victims below ever use
  // depends on how long each of them happens to live. A prompt that fills the pool settles that beforehand.
  victim long_one = start_victim(server.endpoint(), "2600");
  wait_for_chunk(long_one);
  const auto filled = watcher.status().cache;
  kill(long_one);
  ASSERT_LE(filled.free_blocks, filled.blocks / 20) << "the warm-up does not fill the pool";
  std::uint64_t size_after_warm_up = 0;
  std::size_t files_after_warm_up = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<victim> victims;
    for (int i = 0; i < at_once; ++i) victims.push_back(start_victim(server.endpoint()));
    for (auto& v : victims) {
      wait_for_chunk(v);
      kill(v);
    }
    if (round == rounds / 5) {
      ASSERT_TRUE(all_free(watcher, std::chrono::seconds(5)));
      size_after_warm_up = server.resident_bytes();
      files_after_warm_up = server.open_files();
    }
  }
  ASSERT_TRUE(all_free(watcher, std::chrono::seconds(5)))
      << "blocks or requests of dead clients are still held";
  const auto size = server.resident_bytes();
  std::printf("resident size after %d kills: %llu kB, after %d: %llu kB\n", rounds * at_once,
              static_cast<unsigned long long>(size >> 10), rounds * at_once / 5,
              static_cast<unsigned long long>(size_after_warm_up >> 10));
  EXPECT_LT(size, size_after_warm_up + allowed_growth);
  EXPECT_LE(server.open_files(), files_after_warm_up + 2);
  EXPECT_EQ(server.terminate(), 0);
}

// Streams without end beside the victims, so that steps go on.
class survivor {
 public:
  explicit survivor(const std::string& endpoint) : thread_([this, endpoint] { run(endpoint); }) {}
  ~survivor() {
    stop_ = true;
    thread_.join();
  }
  survivor(const survivor&) = delete;
  survivor& operator=(const survivor&) = delete;

 private:
  void run(const std::string& endpoint) try {
    const auto server = client::connect(endpoint, {.timeout = std::chrono::seconds(20)});
    client::generate_request request;
    request.prompt = client::text_prompt{"The lighthouse keeper counted the ships that"};
    request.sampling = client::sampling_options{.temperature = 0};
    request.stop.ignore_eos = true;
    request.stop.max_tokens = 30'000;
    auto stream = server.generate(request);
    while (!stop_ && stream.next()) {
    }
  } catch (const client::failure& problem) {
    ADD_FAILURE() << problem.what();
  }
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// What can be had: the dead process's socket is closed by the kernel, the server's socket library sees that and says so by
// its monitor (or at the next send, one step later); then gateway, tokenizer and scheduler each handle one message, and the
// scheduler's Release reaches the cache manager before its next plan. That is well below a step of a real model. The demo's
// steps take about a millisecond, two plans are in flight, and the counting itself asks over a socket: hence some steps.
TEST(KilledClients, GiveTheirBlocksBackWithinAFewSteps) {
  constexpr int kills = 7;
  test::server_process server;
  const auto watcher = client::connect(server.endpoint());
  const survivor other(server.endpoint());
  const auto held = [](const client::server_status& s) { return s.cache.blocks - s.cache.free_blocks; };
  const auto steps_of = [](const client::server_status& s) { return s.models.at(0).steps; };
  std::vector<std::uint64_t> steps;
  for (int round = 0; round < kills; ++round) {
    while (watcher.status().models.at(0).running != 1)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const auto alone = watcher.status();
    // The most that the survivor may hold by now: a block has room for 16 tokens at least, a step gives it one.
    const auto its_own = [&](const client::server_status& now) {
      return held(alone) + (steps_of(now) - steps_of(alone)) / 16 + 2;
    };
    victim v =
        start_victim(server.endpoint(), "500");  // holds many blocks as soon as its first chunk is there
    wait_for_chunk(v);
    const auto before = watcher.status();
    ASSERT_GT(steps_of(before), steps_of(alone));
    kill(v);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    auto after = watcher.status();
    while (held(after) > its_own(after) && std::chrono::steady_clock::now() < end) after = watcher.status();
    ASSERT_GE(held(before), its_own(before) + 8) << "the victim never held what could be missed";
    ASSERT_LE(held(after), its_own(after)) << "blocks of a dead client are still held";
    steps.push_back(steps_of(after) - steps_of(before));
  }
  std::ranges::sort(steps);
  std::printf("steps from the kill to the release: %llu in the median, %llu at most\n",
              static_cast<unsigned long long>(steps[kills / 2]),
              static_cast<unsigned long long>(steps.back()));
  EXPECT_LE(steps[kills / 2], 4U);
}

// The worker that has the victim's stream encodes a megabyte for another: what it was told of the death waits behind that.
TEST(KilledClients, GiveTheirBlocksBackWhileTheirWorkerIsBusy) {
  test::server_process server(
      {"--model", TROUPE_SOURCE_DIR "/demo/mixtral-demo", "--set", "tokenizer.workers=1"});
  const auto watcher = client::connect(server.endpoint());
  victim v = start_victim(server.endpoint(), "100");
  wait_for_chunk(v);
  std::atomic<bool> encoded{false};
  std::thread other([&] {
    std::string text;
    while (text.size() < std::size_t{7} << 20) text += "The lighthouse keeper counted the ships. ";
    try {
      static_cast<void>(
          client::connect(server.endpoint(), {.call_timeout = std::chrono::minutes(5)}).tokenize(text));
      encoded = true;
    } catch (const client::failure&) {  // the server is killed with it
    }
  });
  while (watcher.status().open_requests < 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  kill(v);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  bool all_back = false;
  while (!all_back && !encoded && std::chrono::steady_clock::now() < end) {
    const auto cache = watcher.status().cache;
    all_back = cache.free_blocks == cache.blocks;
  }
  EXPECT_TRUE(all_back) << "blocks are held until the worker has time";
  EXPECT_FALSE(encoded) << "the worker was not busy for long enough to show anything";
  server.signal(SIGKILL);
  other.join();
}

}  // namespace
}  // namespace troupe
