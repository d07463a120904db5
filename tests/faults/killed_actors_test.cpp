// Each actor is killed in mid-stream. A stream goes on with exactly the text that it has without the fault, or ends with a
// typed error; the next request is answered as if nothing had been.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kernel/supervision/supervisor.hpp"
#include "tests/support/demo_server.hpp"

namespace troupe::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t tokens = 400;

enum class fate {
  goes_on,    // with the same text
  ends_typed  // with `unavailable`
};

struct fault {
  const char* actor;
  fate stream;
};
void PrintTo(const fault& f, std::ostream* out) {
  *out << f.actor;
}

void kill(demo_server& running, const std::string& actor) {
  supervision::stop(running->actors().find(actor), caf::exit_reason::kill);
}

// Restarts of the actor, as a client sees them.
std::uint32_t restarts_of(const client::connection& server, const std::string& actor) {
  for (const auto& entry : server.status().restarts)
    if (entry.actor == actor) return entry.restarts;
  return 0;
}

std::uint32_t wait_for_restarts(const client::connection& server, const std::string& actor,
                                std::uint32_t least) {
  std::uint32_t seen = 0;
  for (int i = 0; i < 200 && (seen = restarts_of(server, actor)) < least; ++i)
    std::this_thread::sleep_for(10ms);
  return seen;
}

// A request may still meet the actor that dies; then it is told to come again.
std::string ask_again_while_unavailable(const client::connection& server, const std::string& question) {
  for (int attempt = 0;; ++attempt) {
    auto stream = server.generate(chat_request(question));
    try {
      return read_all(stream);
    } catch (const client::failure& f) {
      if (f.code() != error_code::unavailable || attempt == 100) throw;
    }
    std::this_thread::sleep_for(10ms);
  }
}

class KilledActor : public testing::TestWithParam<fault> {};

TEST_P(KilledActor, InMidStream) {
  const auto [actor, expected_fate] = GetParam();
  demo_server running;
  const auto server = running.connect();
  auto reference = server.generate(long_request(tokens));
  const std::string expected = read_all(reference);

  auto stream = server.generate(long_request(tokens));
  std::string text;
  for (int i = 0; i < 20; ++i) text += stream.next(patience)->text;
  kill(running, actor);
  std::optional<client::failure> problem;
  try {
    text += read_all(stream);
  } catch (const client::failure& f) {
    problem = f;
  }
  if (expected_fate == fate::goes_on) {
    EXPECT_FALSE(problem) << problem->what();
    EXPECT_EQ(text, expected);
  } else {
    ASSERT_TRUE(problem);
    EXPECT_EQ(problem->code(), error_code::unavailable) << problem->what();
    EXPECT_TRUE(expected.starts_with(text));
  }

  auto next = server.generate(long_request(tokens));
  EXPECT_EQ(read_all(next), expected);
  EXPECT_EQ(wait_for_restarts(server, actor, 1), 1u);
  const auto status = server.status();
  EXPECT_EQ(status.open_requests, 0u);
  EXPECT_EQ(status.cache.free_blocks, status.cache.blocks);
}

INSTANTIATE_TEST_SUITE_P(Faults, KilledActor,
                         testing::Values(fault{"host/0", fate::goes_on}, fault{"executor", fate::goes_on},
                                         fault{"cache_manager", fate::goes_on},
                                         fault{"scheduler/0", fate::goes_on},
                                         fault{"tokenizer/0/0", fate::ends_typed},
                                         fault{"gateway", fate::ends_typed}),
                         [](const auto& test) {
                           std::string name = test.param.actor;
                           for (char& c : name)
                             if (c == '/') c = '_';
                           return name;
                         });

class KilledActorsOf : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Model, KilledActorsOf, testing::Values(demo_model, recurrent_demo_model),
                         [](const auto& test) {
                           return std::string(test.param == demo_model ? "attention" : "recurrent");
                         });

// Sampled streams, several at once, one actor after the other. State that survives nowhere is computed again from the tokens.
TEST_P(KilledActorsOf, ChangeNoSampledText) {
  demo_server running([](server_options& o) {
    o.config.models = {{.path = GetParam()}};
    o.config.scheduler.max_sequences = 8;  // no place, and no slot for state, to spare
  });
  const auto server = running.connect();
  const auto request = [](int i) {
    auto r = long_request(150);
    r.sampling =
        client::sampling_options{.temperature = 0.9F, .top_k = 50, .seed = 100u + static_cast<unsigned>(i)};
    return r;
  };
  std::vector<std::string> expected;
  for (int i = 0; i < 8; ++i) {
    auto stream = server.generate(request(i));
    expected.push_back(read_all(stream));
  }
  std::vector<std::string> texts(8);
  std::atomic<int> begun = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i)
    clients.emplace_back([&, i] {
      try {
        auto stream = server.generate(request(i));
        texts[static_cast<std::size_t>(i)] = stream.next(patience)->text;
        ++begun;
        texts[static_cast<std::size_t>(i)] += read_all(stream);
      } catch (const client::failure& f) {
        texts[static_cast<std::size_t>(i)] = f.what();
      }
    });
  while (begun < 8) std::this_thread::sleep_for(1ms);
  std::uint32_t executors = 0;
  for (const std::string actor : {"executor", "cache_manager", "scheduler/0", "executor", "host/0"}) {
    kill(running, actor);
    const std::uint32_t restarts = actor == "executor" ? ++executors : 1;
    EXPECT_EQ(wait_for_restarts(server, actor, restarts), restarts) << actor;
  }
  for (auto& c : clients) c.join();
  EXPECT_EQ(texts, expected);
}

TEST(KilledActors, CanDieWhileTheServerIsIdle) {
  demo_server running;
  const auto server = running.connect();
  for (const char* actor :
       {"gateway", "tokenizer/0/0", "scheduler/0", "cache_manager", "executor", "host/0"}) {
    kill(running, actor);
    EXPECT_EQ(ask_again_while_unavailable(server, "What is the capital of France?"),
              "The capital of France is Paris.")
        << actor;
  }
}

TEST(KilledActors, EndTheServerWhenTheyDieAgainAndAgain) {
  std::atomic<int> given_up = 0;
  demo_server running([&](server_options& o) { o.gave_up = [&](const std::string&) { ++given_up; }; });
  const auto server = running.connect();
  auto stream = server.generate(long_request(30'000));
  ASSERT_TRUE(stream.next(patience));
  for (int i = 0; i < 2000 && given_up == 0; ++i) {
    kill(running, "executor");
    std::this_thread::sleep_for(5ms);
  }
  EXPECT_EQ(given_up, 1);
  try {
    read_all(stream);
    ADD_FAILURE() << "the stream has ended as if nothing had been";
  } catch (const client::failure& f) {
    // By the server's end, or before it as the one in whose steps the device died.
    EXPECT_TRUE(f.code() == error_code::shutting_down || f.code() == error_code::internal) << f.what();
  }
}

}  // namespace
}  // namespace troupe::test
