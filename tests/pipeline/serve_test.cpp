// The real command: signals, exit status, and what it says when it cannot start.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "tests/support/server_process.hpp"
#include "tests/support/temp_folder.hpp"
#include "troupe/client.hpp"

namespace troupe::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr auto patience = std::chrono::milliseconds(60s);

client::generate_request long_request(std::uint32_t tokens) {
  client::generate_request request;
  request.prompt = client::text_prompt{"The king looked at the old man and said"};
  request.sampling = client::sampling_options{.temperature = 0};
  request.stop.max_tokens = tokens;
  request.stop.ignore_eos = true;
  return request;
}

struct finished {
  int status = -1;
  std::string output;  // stdout and stderr
};

finished run(const std::string& arguments, const std::string& before = "") {
  const std::string line = before + " " TROUPE_BINARY_DIR "/bin/troupe " + arguments + " 2>&1";
  finished f;
  FILE* pipe = ::popen(line.c_str(), "r");
  std::array<char, 4096> piece{};
  while (const std::size_t n = std::fread(piece.data(), 1, piece.size(), pipe))
    f.output.append(piece.data(), n);
  const int status = ::pclose(pipe);
  f.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return f;
}

class Serve : public testing::TestWithParam<int> {};

TEST_P(Serve, DrainsARunningStreamOnASignalAndExitsWithZero) {
  server_process server;
  const auto connection = client::connect(server.endpoint());
  auto reference = connection.generate(long_request(300));
  std::string expected, text;
  while (auto piece = reference.next(patience)) expected += piece->text;
  auto stream = connection.generate(long_request(300));
  text += stream.next(patience)->text;
  server.signal(GetParam());
  while (auto piece = stream.next(patience)) text += piece->text;
  EXPECT_EQ(text, expected);
  EXPECT_EQ(stream.final().usage.generated_tokens, 300u);
  EXPECT_EQ(server.wait(), 0) << server.log();
}

INSTANTIATE_TEST_SUITE_P(Signals, Serve, testing::Values(SIGTERM, SIGINT));

// One of the modules does not let itself be opened.
TEST_P(Serve, StopsSoonWhileItStarts) {
  const auto begin = std::chrono::steady_clock::now();
  const auto o = run(
      fmt::format(
          R"(serve --listen 'tcp://127.0.0.1:*' --set 'modules.folders=["{0}/lib/troupe/modules", "{0}/tests/modules/endless"]')",
          TROUPE_BINARY_DIR),
      fmt::format("timeout --preserve-status -s {} 1", GetParam()));
  EXPECT_EQ(o.status, 0) << o.output;
  EXPECT_THAT(o.output, HasSubstr("stopping before all models are ready"));
  EXPECT_THAT(o.output, Not(HasSubstr("serves on")));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 9s);
}

TEST(ServeCommand, EndsOpenStreamsWithATypedErrorAtItsDeadline) {
  server_process server({"--set", "server.drain=300ms"});
  const auto connection = client::connect(server.endpoint());
  auto stream = connection.generate(long_request(30'000));
  ASSERT_TRUE(stream.next(patience));
  server.signal(SIGTERM);
  try {
    while (stream.next(patience)) {
    }
    FAIL() << "the stream ended well";
  } catch (const client::failure& f) {
    EXPECT_EQ(f.code(), client::error_code::shutting_down) << f.what();
  }
  EXPECT_EQ(server.wait(), 0) << server.log();
}

TEST(ServeCommand, StopsAtOnceOnASecondSignal) {
  server_process server({"--set", "server.drain=1h"});
  const auto connection = client::connect(server.endpoint());
  auto stream = connection.generate(long_request(30'000));
  ASSERT_TRUE(stream.next(patience));
  const auto begin = std::chrono::steady_clock::now();
  server.signal(SIGTERM);
  std::this_thread::sleep_for(300ms);
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0) << server.log();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
}

// Encoding megabytes keeps a tokenizer's thread busy for a while (tens of seconds for these), whatever the signal.
std::string megabytes(std::size_t count) {
  std::string text;
  while (text.size() < count << 20) text += "The lighthouse keeper counted the ships. ";
  return text;
}

class Busy : public testing::Test {
 protected:
  Busy() : server_({"--set", "server.drain=300ms", "--set", "tokenizer.workers=1"}) {
    asker_ = std::thread([this] {
      try {
        client::connect(server_.endpoint(), {.call_timeout = patience}).tokenize(megabytes(7));
        finished_ = true;
      } catch (const client::failure&) {
      }
    });
    const auto watcher = client::connect(server_.endpoint());
    while (watcher.status().open_requests == 0) std::this_thread::sleep_for(5ms);
  }
  ~Busy() override { asker_.join(); }

  server_process server_;
  std::thread asker_;
  std::atomic<bool> finished_{false};
};

TEST_F(Busy, StopsAtOnceOnASecondSignal) {
  server_.signal(SIGTERM);
  std::this_thread::sleep_for(100ms);
  const auto begin = std::chrono::steady_clock::now();
  server_.signal(SIGTERM);
  EXPECT_EQ(server_.wait(), 0) << server_.log();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
  EXPECT_THAT(server_.log(), HasSubstr("stopped"));
  EXPECT_FALSE(finished_) << "the text is too short to show anything";
}

TEST_F(Busy, StopsSoonAfterItsDeadlineOnOneSignal) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(server_.terminate(), 0) << server_.log();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
  EXPECT_THAT(server_.log(), HasSubstr("stopped"));
  EXPECT_FALSE(finished_) << "the text is too short to show anything";
}

TEST(ServeCommand, SaysWhatItServes) {
  server_process server(std::vector<std::string>{});
  EXPECT_THAT(server.log(), HasSubstr(server.endpoint()));
  EXPECT_THAT(server.log(), HasSubstr("mixtral-demo"));
  EXPECT_THAT(server.log(), HasSubstr("this is the demo model that comes with Troupe"));
  EXPECT_EQ(server.terminate(), 0);
}

TEST(ServeCommand, NamesModelsAsTold) {
  server_process server({"--model", "fox=" TROUPE_SOURCE_DIR "/demo/mixtral-demo"});
  EXPECT_EQ(client::connect(server.endpoint()).models().at(0).name, "fox");
}

TEST(ServeCommand, FailsIfThePortIsInUse) {
  server_process server;
  const auto second = run("serve --listen " + server.endpoint());
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.output, HasSubstr("troupe: error: "));
  EXPECT_THAT(second.output, HasSubstr(server.endpoint()));
}

TEST(ServeCommand, ExitsWithTwoIfFilesOrOptionsAreWrong) {
  temp_folder folder;
  const auto file = folder.write("troupe.toml", "[cache]\nmemroy = \"1GiB\"\n").string();
  struct {
    std::string arguments, says;
  } const cases[] = {
      {"serve --model /nonexistent/model", "/nonexistent/model"},
      {"serve --config " + file, file + ":2: unknown key \"memroy\" in [cache]; did you mean \"memory\"?"},
      {"serve --config /nonexistent.toml", "/nonexistent.toml"},
      {"serve --set cache.blok=1KiB", "did you mean \"cache.block\"?"},
      {"serve --listen 7410", "\"7410\" is no endpoint"},
      {"serve --log-level loud", "\"loud\" is no log level"},
      {"serve --modle x", "unknown option --modle of troupe serve; did you mean --model?"},
      {"srve", "unknown command srve; did you mean serve?"},
      {"--hepl", "unknown option --hepl; did you mean --help?"},
  };
  for (const auto& c : cases) {
    const auto outcome = run(c.arguments);
    EXPECT_EQ(outcome.status, 2) << c.arguments << '\n' << outcome.output;
    EXPECT_THAT(outcome.output, StartsWith("troupe: error: ")) << c.arguments;
    EXPECT_THAT(outcome.output, HasSubstr(c.says)) << c.arguments;
    EXPECT_EQ(std::count(outcome.output.begin(), outcome.output.end(), '\n'), 1) << outcome.output;
  }
}

TEST(ServeCommand, ExplainsItself) {
  const auto top = run("--help");
  EXPECT_EQ(top.status, 0);
  EXPECT_THAT(top.output, HasSubstr("troupe serve"));
  const auto serve = run("serve --help");
  EXPECT_EQ(serve.status, 0);
  for (const char* option : {"--config", "--model", "--listen", "--set", "--ready-file"})
    EXPECT_THAT(serve.output, HasSubstr(option));
}

}  // namespace
}  // namespace troupe::test
