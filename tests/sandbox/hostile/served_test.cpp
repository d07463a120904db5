// A server streams while hostile modules are judged beside it, one after another.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "tests/cli/process.hpp"
#include "tests/sandbox/hostile/cases.hpp"
#include "tests/support/server_process.hpp"
#include "troupe/client.hpp"

namespace troupe {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

// Streams endlessly, until an error; remembers the longest time between two pieces of one stream.
class listener {
 public:
  explicit listener(const std::string& endpoint) : thread_([this, endpoint] { run(endpoint); }) {}
  ~listener() { end(); }

  // Since the last call.
  std::chrono::milliseconds longest_gap() { return std::chrono::milliseconds(gap_ms_.exchange(0)); }
  std::uint64_t pieces() const { return pieces_; }
  // Waits until there are `wanted` more; false = the stream has ended in an error, or they did not come.
  bool goes_on_for(std::uint64_t wanted) const {
    const auto target = pieces_ + wanted;
    for (const auto until = clock::now() + 2min; pieces_ < target; std::this_thread::sleep_for(10ms))
      if (has_ended_ || clock::now() > until) return false;
    return true;
  }
  // The error in which a stream ended; empty = none did.
  const std::string& end() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return problem_;
  }

 private:
  void run(const std::string& endpoint) {
    try {
      const auto server = client::connect(endpoint, {.timeout = 30s});
      while (!stop_) stream_once(server);
    } catch (const std::exception& e) {
      problem_ = e.what();
    }
    has_ended_ = true;
  }

  void stream_once(const client::connection& server) {
    client::generate_request request;
    request.prompt = client::text_prompt{"Once upon a time there was a king who had"};
    request.sampling = client::sampling_options{.temperature = 0};
    request.stop.ignore_eos = true;
    request.stop.max_tokens = 1000;
    auto stream = server.generate(request);
    if (!stream.next(1min)) return;
    auto last = clock::now();
    while (!stop_ && stream.next(1min)) {
      const auto now = clock::now();
      const auto gap = std::chrono::duration_cast<std::chrono::milliseconds>(now - last).count();
      if (gap > gap_ms_) gap_ms_ = gap;
      last = now;
      ++pieces_;
    }
  }

  std::atomic<bool> stop_ = false, has_ended_ = false;
  std::atomic<std::int64_t> gap_ms_ = 0;
  std::atomic<std::uint64_t> pieces_ = 0;
  std::string problem_;
  std::thread thread_;
};

// Like the case, but as a person judges a module.
void judge(const sandbox::test::hostile_case& c, const test::temp_folder& folder) {
  const auto config = folder.write("config.json", c.config);
  const auto found =
      testing::run_troupe({"module", "check", std::string(HOSTILE_MODULES "/") + c.module + ".so", "--config",
                           config.string(), "--seconds", sandbox::sanitized() ? "10" : "2"});
  EXPECT_THAT(found.status, ::testing::AnyOf(1, 2)) << c.module << "\n" << found.out << found.err;
  if (sandbox::test::sanitizer_answers_instead(c)) return;
  // On a busy machine the time may be up before anything else is.
  EXPECT_THAT(found.out + found.err, ::testing::AnyOf(::testing::HasSubstr(c.text),
                                                      ::testing::HasSubstr("timed out: did not end within")))
      << c.module;
}

// A stream stalls by itself when the machine is busy with other things: what counts is a stall that comes again with the same
// module, and that is long beside those of the stream alone.
std::chrono::milliseconds stall_beside(const sandbox::test::hostile_case& c, listener& stream,
                                       const test::temp_folder& folder) {
  std::chrono::milliseconds gap{};
  for (int attempt = 0; attempt < 4; ++attempt) {
    (void)stream.longest_gap();
    std::this_thread::sleep_for(attempt * 1s);
    const auto quiet = stream.longest_gap();
    judge(c, folder);
    if (!stream.goes_on_for(1)) return std::chrono::milliseconds::max();
    gap = stream.longest_gap();
    if (gap <= std::max<std::chrono::milliseconds>(100ms, 3 * quiet)) return {};
  }
  return gap;
}

TEST(HostileModules, DoNotDisturbAStream) {
  test::server_process server;
  const test::temp_folder folder;
  {
    listener stream(server.endpoint());
    ASSERT_TRUE(stream.goes_on_for(50)) << stream.end();
    for (const auto& c : sandbox::test::hostile_cases()) {
      if (c.module == std::string_view("hides_and_loops"))
        continue;  // takes as long as `sleeps`, and says the same
      EXPECT_EQ(stall_beside(c, stream, folder).count(), 0) << "ms, beside " << c.module << " " << c.config;
      ASSERT_TRUE(stream.goes_on_for(1)) << "beside " << c.module << " " << c.config << ": " << stream.end();
    }
    EXPECT_EQ(stream.end(), "");
  }
  EXPECT_EQ(server.terminate(), 0) << server.log();
}

TEST(HostileModules, InAFolderOfTheServerAreSkippedWithTheReason) {
  const test::temp_folder folder;
  for (const char* name : {"start_crashes", "start_connects", "null_table"})
    std::filesystem::copy_file(std::string(HOSTILE_MODULES "/") + name + ".so",
                               folder.path() / (std::string(name) + ".so"));
  std::filesystem::copy_file(TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so",
                             folder.path() / "mixtral.so");
  test::server_process server({"--model", TROUPE_SOURCE_DIR "/demo/mixtral-demo", "--set",
                               "modules.folders=[\"" + folder.path().string() + "\"]"});
  const auto models = client::connect(server.endpoint()).models();
  EXPECT_EQ(models.size(), 1u);
  EXPECT_THAT(server.log(), ::testing::HasSubstr("called socket, which a module may not, in at_start"));
  EXPECT_THAT(server.log(), ::testing::HasSubstr("crashed: Segmentation fault (SIGSEGV), in at_start"));
  EXPECT_THAT(server.log(), ::testing::HasSubstr("troupe_module_entry answered null"));
  EXPECT_EQ(server.terminate(), 0) << server.log();
}

// At its start a server looks at every library of its folders, also at those that nobody asks for; it does so before it is ready, and
// not again.
TEST(HostileModules, InAFolderOfTheServerDoNotKeepItFromServing) {
  const test::temp_folder folder;
  for (const auto& file : std::filesystem::directory_iterator(HOSTILE_MODULES)) {
    const auto name = file.path().filename();
    if (name == "start_loops.so") continue;  // would take as long as it may
    std::filesystem::copy_file(file.path(), folder.path() / name);
  }
  test::server_process server(
      {"--model", TROUPE_SOURCE_DIR "/demo/mixtral-demo", "--set",
       "modules.folders=[\"" TROUPE_BINARY_DIR "/lib/troupe/modules\", \"" + folder.path().string() + "\"]"});
  {
    listener stream(server.endpoint());
    EXPECT_TRUE(stream.goes_on_for(100));
    EXPECT_EQ(stream.end(), "");
  }
  EXPECT_THAT(server.log(), ::testing::HasSubstr("claims_walls.so: answers what the cell does not say"));
  EXPECT_EQ(server.terminate(), 0) << server.log();
}

// A model whose module is hostile: the server does not start, and says why in one line.
TEST(HostileModules, ThatAModelNeedsKeepTheServerFromStarting) {
  for (const char* name : {"segfaults", "exits_0", "goes_back_in_the_build", "allocates_50_gb"}) {
    const test::temp_folder folder;
    std::filesystem::create_directory(folder.path() / "modules");
    std::filesystem::copy_file(std::string(HOSTILE_MODULES "/") + name + ".so",
                               folder.path() / "modules" / (std::string(name) + ".so"));
    std::filesystem::copy(TROUPE_SOURCE_DIR "/demo/mixtral-demo", folder.path() / "model");
    std::filesystem::remove(folder.path() / "model" / "config.json");
    folder.write("model/config.json", R"({"architectures": ["HostileForCausalLM"], "vocab_size": 4096})");
    const auto found = testing::run_troupe(
        {"serve", "--model", (folder.path() / "model").string(), "--listen", "tcp://127.0.0.1:*", "--set",
         "modules.folders=[\"" + (folder.path() / "modules").string() + "\"]"});
    EXPECT_EQ(found.status, 2) << name << "\n" << found.out << found.err;
    EXPECT_THAT(found.err, ::testing::HasSubstr("model model: module hostile 6.6.6: ")) << name;
  }
}

}  // namespace
}  // namespace troupe
