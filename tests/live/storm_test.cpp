// Streams over three models while modules are swapped back and forth and weights are deployed and rolled back. No request fails; every
// stream has exactly the tokens of an undisturbed run; the server is in the end what it was in the beginning.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/server_process.hpp"
#include "tests/support/temp_folder.hpp"
#include "troupe/operations.hpp"

namespace troupe::test {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr const char* demo_model = TROUPE_SOURCE_DIR "/demo/mixtral-demo";

int number_of(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoi(text);
}

client::generate_request request(const std::string& model, int number, std::uint32_t tokens) {
  client::generate_request r;
  r.model = model;
  std::string text = "Once upon a time";
  for (int i = 0; i < number; ++i) text += " there was a fox";
  r.prompt = client::text_prompt{text};
  r.sampling = client::sampling_options{.temperature = number % 2 == 0 ? 0.0F : 1.0F};
  r.sampling->seed = static_cast<std::uint64_t>(number);
  r.stop.max_tokens = tokens;
  r.stop.ignore_eos = true;
  r.logprobs = true;
  return r;
}

using gaps = std::vector<double>;  // ms between two pieces of a stream

std::vector<std::int32_t> run(const client::connection& server, const client::generate_request& r,
                              gaps& seen) {
  auto stream = server.generate(r);
  std::vector<std::int32_t> ids;
  auto last = clock::time_point();
  while (auto piece = stream.next(10min)) {
    const auto now = clock::now();
    if (last != clock::time_point())
      seen.push_back(std::chrono::duration<double, std::milli>(now - last).count());
    last = now;
    for (const auto& t : piece->tokens) ids.push_back(t.token);
  }
  if (stream.final().usage.generated_tokens != ids.size()) throw std::runtime_error("usage is wrong");
  return ids;
}

std::string distribution(gaps g) {
  if (g.empty()) return "none";
  std::ranges::sort(g);
  const auto at = [&](double part) {
    return g[std::min(g.size() - 1, static_cast<std::size_t>(part * static_cast<double>(g.size())))];
  };
  return fmt::format("{} gaps, ms: median {:.1f}, 90 % {:.1f}, 99 % {:.1f}, 99.9 % {:.1f}, longest {:.1f}",
                     g.size(), at(0.5), at(0.9), at(0.99), at(0.999), g.back());
}

struct footprint {
  std::uint64_t resident = 0;
  std::size_t files = 0, threads = 0, maps = 0, modules = 0, staged = 0;
};

footprint footprint_of(const server_process& server, const std::filesystem::path& store) {
  footprint f;
  f.resident = server.resident_bytes();
  f.files = server.open_files();
  const auto proc = std::filesystem::path("/proc") / std::to_string(server.pid());
  const std::filesystem::directory_iterator tasks(proc / "task");
  f.threads = static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
  std::ifstream maps(proc / "maps");
  for (std::string line; std::getline(maps, line); ++f.maps)
    if (line.find(store.string()) != std::string::npos) ++f.modules;
  const std::filesystem::directory_iterator copies(store);
  f.staged = static_cast<std::size_t>(std::distance(begin(copies), end(copies)));
  return f;
}

std::string words(const footprint& f) {
  return fmt::format("resident {:.1f} MiB, {} files, {} threads, {} mappings, {} of modules, {} staged files",
                     static_cast<double>(f.resident) / (1 << 20), f.files, f.threads, f.maps, f.modules,
                     f.staged);
}

struct storm {
  std::string endpoint;
  std::map<std::string, std::map<int, std::vector<std::int32_t>>> expected;  // by model and prompt
  std::uint32_t tokens = 0;
  std::atomic<bool> stop{false};
  std::atomic<int> finished{0};
  std::mutex guard;
  gaps all_gaps;
  std::vector<std::string> problems;

  void stream(int number) {
    static const std::vector<std::string> models = {"fox", "owl", "hen"};
    const auto& model = models[static_cast<std::size_t>(number) % models.size()];
    gaps mine;
    try {
      const auto server = client::connect(endpoint, {.timeout = 1min});
      while (!stop) {
        const int prompt = number % static_cast<int>(expected.at(model).size());
        const auto ids = run(server, request(model, prompt, tokens), mine);
        ++finished;
        if (ids == expected.at(model).at(prompt)) continue;
        const std::lock_guard lock(guard);
        problems.push_back(fmt::format("{}, prompt {}: other tokens", model, prompt));
      }
    } catch (const std::exception& e) {
      const std::lock_guard lock(guard);
      problems.push_back(fmt::format("stream {} of {}: {}", number, model, e.what()));
    }
    const std::lock_guard lock(guard);
    all_gaps.insert(all_gaps.end(), mine.begin(), mine.end());
  }
};

TEST(Storm, LosesNothingAndLeavesNothingBehind) {
  const int swaps = number_of("TROUPE_STORM_SWAPS", 12), streams = number_of("TROUPE_STORM_STREAMS", 9);
  const temp_folder scratch;
  std::ofstream(scratch.path() / "config.toml")
      << "[cache]\nmemory = \"256MiB\"\n[server]\nstate = \"" << (scratch.path() / "state").string()
      << "\"\n[modules]\nstore = \"" << (scratch.path() / "store").string() << "\"\n"
      << fmt::format(
             "[[model]]\nname = \"fox\"\npath = \"{0}\"\n[[model]]\nname = \"owl\"\npath = \"{0}\"\n"
             "[[model]]\nname = \"hen\"\npath = \"{0}\"\n",
             demo_model);
  server_process server({"--config", (scratch.path() / "config.toml").string()});
  const client::operations operations(client::connect(server.endpoint()));
  storm s;
  s.endpoint = server.endpoint();
  s.tokens = 64;
  gaps quiet;
  const auto watcher = client::connect(server.endpoint());
  for (const char* model : {"fox", "owl", "hen"})
    for (int prompt = 0; prompt < 6; ++prompt)
      s.expected[model][prompt] = run(watcher, request(model, prompt, s.tokens), quiet);

  std::vector<std::thread> threads;
  for (int i = 0; i < streams; ++i) threads.emplace_back([&s, i] { s.stream(i); });
  const std::vector<std::string> modules = {LIVE_MODULES "/reordered.so", LIVE_MODULES "/two_caches.so",
                                            TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so"};
  const std::vector<std::string> models = {"fox", "owl", "hen"};
  client::swap_options how;
  how.probation = 20ms;
  client::deploy_options deploying;
  deploying.probation = 20ms;
  gaps pauses;
  footprint begin;
  int done = 0;
  for (int i = 0; i < swaps; ++i) {
    const auto& model = models[static_cast<std::size_t>(i) % 3];
    try {
      const auto swapped = operations.swap(model, modules[static_cast<std::size_t>(i / 3) % 3], how);
      pauses.push_back(swapped.pause_ms);
      ++done;
      if (i % 10 == 5) operations.deploy(model, demo_model, deploying);
    } catch (const client::failure& f) {
      s.problems.push_back(fmt::format("swap {}: {}", i, f.what()));
      break;
    }
    if (i == std::min(8, swaps / 2)) begin = footprint_of(server, scratch.path() / "store");
  }
  s.stop = true;
  for (auto& t : threads) t.join();
  for (int i = 0; i < 100 && watcher.models().size() > 3; ++i) std::this_thread::sleep_for(50ms);
  const auto end = footprint_of(server, scratch.path() / "store");
  std::cout << fmt::format(
      "{} swaps under {} streams, {} requests finished\n  undisturbed, one at a time: {}\n"
      "  under the storm:             {}\n  pauses of the switches:      {}\n"
      "  early: {}\n  end:   {}\n",
      done, streams, s.finished.load(), distribution(quiet), distribution(s.all_gaps), distribution(pauses),
      words(begin), words(end));
  EXPECT_TRUE(s.problems.empty()) << s.problems.size() << ", first: " << s.problems.front();
  EXPECT_EQ(done, swaps);
  EXPECT_GT(s.finished, 0);
  EXPECT_EQ(end.modules, 0u) << "modules without native ops are never mapped";
  EXPECT_LE(end.staged, 8u);
  EXPECT_LE(end.files, begin.files + 2);
  EXPECT_LE(end.threads, begin.threads + 2) << "stagers that end";
  EXPECT_EQ(server.terminate(), 0) << server.log();
}

}  // namespace
}  // namespace troupe::test
