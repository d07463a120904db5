// kill -9 of a real server in each state of an operation. The restart comes back to what the journal promised: the version before, or
// behind the commit the new one; never to what was on probation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/server_process.hpp"
#include "tests/support/temp_folder.hpp"
#include "troupe/operations.hpp"

namespace troupe::test {
namespace {

using namespace std::chrono_literals;

constexpr const char* demo_model = TROUPE_SOURCE_DIR "/demo/mixtral-demo";

std::vector<std::string> arguments(const temp_folder& folder) {
  const auto file = folder.path() / "config.toml";
  std::ofstream(file) << "[server]\nstate = \"" << (folder.path() / "state").string()
                      << "\"\n[modules]\nstore = \"" << (folder.path() / "store").string()
                      << "\"\n[[model]]\nname = \"fox\"\npath = \"" << demo_model << "\"\n";
  return {"--config", file.string()};
}

client::model_info fox(const server_process& server) {
  for (auto& m : client::connect(server.endpoint(), {.timeout = 1min}).models())
    if (m.name == "fox") return m;
  return {};
}

void generate(const server_process& server) {
  client::generate_request r;
  r.prompt = client::text_prompt{"Once upon a time"};
  r.stop.max_tokens = 5;
  auto stream = client::connect(server.endpoint(), {.timeout = 1min}).generate(r);
  while (stream.next(1min)) {
  }
}

// Kills the server as soon as the operation is seen in the state; answers the states that were seen.
std::vector<std::string> kill_at(server_process& server, const std::string& wanted) {
  const client::operations watcher(client::connect(server.endpoint(), {.timeout = 1min}));
  auto events = watcher.events("fox");
  std::thread asker([endpoint = server.endpoint()] {
    try {
      client::swap_options how;
      how.probation = 500ms;
      client::operations(client::connect(endpoint)).swap("fox", LIVE_MODULES "/reordered.so", how);
    } catch (const client::failure&) {
    }
  });
  std::vector<std::string> seen;
  try {
    while (const auto e = events.next(1min)) {
      seen.push_back(e->state);
      if (e->state == wanted || e->state == "done") break;
    }
  } catch (const client::failure& f) {
    ADD_FAILURE() << f.what();
  }
  server.signal(SIGKILL);
  server.wait();
  asker.join();
  return seen;
}

class KilledAt : public testing::TestWithParam<const char*> {};

TEST_P(KilledAt, ComesBackToWhatWasPromised) {
  const temp_folder folder;
  std::optional<server_process> server(std::in_place, arguments(folder));
  const auto before = fox(*server);
  const auto seen = kill_at(*server, GetParam());
  ASSERT_THAT(seen, testing::Contains(GetParam())) << "it was not killed there";
  server.emplace(arguments(folder));
  const auto after = fox(*server);
  const client::operations operations(client::connect(server->endpoint(), {.timeout = 1min}));
  const auto told = operations.history("fox");
  ASSERT_EQ(told.size(), 1u);
  const bool committed = after.generation == 2;
  EXPECT_EQ(told.back().state, committed ? "done" : "refused") << told.back().reason;
  EXPECT_EQ(told.back().new_generation, after.generation);
  EXPECT_EQ(after.module_sha256 == before.module_sha256, !committed) << "generation " << after.generation;
  // What was seen behind the commit is promised; probation lasts long enough to be killed in it.
  const std::string last = seen.back();
  if (last == "retiring" || last == "done") {
    EXPECT_TRUE(committed) << "killed at " << last;
  } else if (last != "committing") {
    EXPECT_FALSE(committed) << "killed at " << last;
  }
  generate(*server);
  // The next operation finds nothing in its way.
  client::swap_options how;
  how.probation = 0ms;
  EXPECT_EQ(operations.swap("fox", LIVE_MODULES "/two_caches.so", how).info.state, "done");
}

INSTANTIATE_TEST_SUITE_P(State, KilledAt,
                         testing::Values("staging", "verifying", "loading", "switching", "watching",
                                         "committing", "retiring", "done"),
                         [](const auto& which) { return std::string(which.param); });

}  // namespace
}  // namespace troupe::test
