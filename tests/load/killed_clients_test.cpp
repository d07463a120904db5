// Clients that vanish in mid-stream cost nothing that lasts.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <csignal>
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

victim start_victim(const std::string& endpoint) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  std::string program = TROUPE_ENDLESS_CLIENT;
  std::string argument = endpoint;
  std::array<char*, 3> argv{program.data(), argument.data(), nullptr};
  victim v;
  EXPECT_EQ(posix_spawn(&v.pid, program.c_str(), &actions, nullptr, argv.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  v.pipe = ends[0];
  return v;
}

void kill_in_mid_stream(victim& v) {
  pollfd wait{v.pipe, POLLIN, 0};
  ASSERT_EQ(::poll(&wait, 1, 30'000), 1) << "no chunk arrived";
  char byte = 0;
  ASSERT_EQ(::read(v.pipe, &byte, 1), 1) << "the client ended before a chunk arrived";
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

TEST(KilledClients, LeaveThePoolFullAndTheProcessNoLarger) {
  constexpr int rounds = 250;
  constexpr int at_once = 4;
  test::server_process server;
  const auto watcher = client::connect(server.endpoint());
  std::uint64_t size_after_warm_up = 0;
  std::size_t files_after_warm_up = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<victim> victims;
    for (int i = 0; i < at_once; ++i) victims.push_back(start_victim(server.endpoint()));
    for (auto& v : victims) kill_in_mid_stream(v);
    if (round == rounds / 5) {
      ASSERT_TRUE(all_free(watcher, std::chrono::seconds(5)));
      size_after_warm_up = server.resident_bytes();
      files_after_warm_up = server.open_files();
    }
  }
  ASSERT_TRUE(all_free(watcher, std::chrono::seconds(5)))
      << "blocks or requests of dead clients are still held";
  const auto grown = static_cast<double>(server.resident_bytes()) / static_cast<double>(size_after_warm_up);
  std::printf("resident size after %d kills: %.3f of that after %d\n", rounds * at_once, grown,
              rounds * at_once / 5);
  EXPECT_LT(grown, 1.02);
  EXPECT_LE(server.open_files(), files_after_warm_up + 2);
  EXPECT_EQ(server.terminate(), 0);
}

}  // namespace
}  // namespace troupe
