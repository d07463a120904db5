// Many clients at once: a text depends on its own request alone.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <chrono>
#include <exception>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/server_process.hpp"
#include "troupe/client.hpp"

namespace troupe {
namespace {

constexpr int clients = 64;

// Until the first token of a long prompt behind those of the others.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr auto patience = std::chrono::minutes(20);
#else
constexpr auto patience = std::chrono::minutes(2);
#endif

struct answer {
  std::vector<std::string> texts;
  std::vector<client::finish_reason> finish;
  std::uint32_t generated = 0;
  bool operator==(const answer&) const = default;
};

answer ask(const client::connection& server, const client::generate_request& request) {
  answer a;
  a.texts.resize(request.n);
  auto stream = server.generate(request);
  while (auto piece = stream.next(patience)) a.texts.at(piece->choice) += piece->text;
  for (const auto& end : stream.final().choices) a.finish.push_back(end.finish);
  a.generated = stream.final().usage.generated_tokens;
  return a;
}

// Ids of the longest recorded prompt: real text, to be cut into prompts of any length.
std::vector<std::int32_t> long_text() {
  std::ifstream file(TROUPE_SOURCE_DIR "/tests/golden/mixtral/prompts.json");
  const std::string content((std::istreambuf_iterator<char>(file)), {});
  const auto goldens = boost::json::parse(content);
  std::vector<std::int32_t> longest;
  for (const auto& prompt : goldens.at("prompts").as_array()) {
    const auto ids = boost::json::value_to<std::vector<std::int32_t>>(prompt.at("ids"));
    if (ids.size() > longest.size()) longest = ids;
  }
  return longest;
}

// Every kind of sampling, prompts of 1 to 3,000 tokens.
std::vector<client::generate_request> mixed_requests() {
  const auto text = long_text();
  std::mt19937 random(7);
  std::vector<client::generate_request> requests;
  for (int i = 0; i < clients; ++i) {
    const std::size_t length = i == 0 ? 1 : i == 1 ? 3000 : 1 + random() % (i % 8 == 0 ? 3000 : 400);
    const std::size_t begin = random() % (text.size() - length);
    client::generate_request r;
    const auto from = text.begin() + static_cast<std::ptrdiff_t>(begin);
    r.prompt = client::token_prompt{{from, from + static_cast<std::ptrdiff_t>(length)}};
    r.stop.max_tokens = 8 + random() % 40;
    client::sampling_options s{.temperature = 0};
    switch (i % 6) {
      case 1:
        s = {.temperature = 0.8F, .top_k = 40, .seed = 1000 + i};
        break;
      case 2:
        s = {.temperature = 1.2F, .top_p = 0.9F, .min_p = 0.02F, .seed = 1000 + i};
        break;
      case 3:
        s = {.temperature = 0, .repetition_penalty = 1.2F, .frequency_penalty = 0.4F};
        break;
      case 4:
        s = {.temperature = 1, .presence_penalty = 0.5F, .logit_bias = {{500, 3.0F}}, .seed = 1000 + i};
        break;
      case 5:
        r.stop.strings = {" the"};
        break;
      default:
        r.stop.ignore_eos = true;
    }
    if (i % 16 == 1) r.n = 3;
    r.sampling = s;
    requests.push_back(r);
  }
  return requests;
}

TEST(ManyClients, EachGetsExactlyTheTextThatItGetsAlone) {
  const auto requests = mixed_requests();
  std::vector<answer> alone;
  {
    test::server_process server(
        {"--model", TROUPE_SOURCE_DIR "/demo/mixtral-demo", "--set", "cache.prefix_cache=false"});
    const auto connection = client::connect(server.endpoint());
    for (const auto& request : requests) alone.push_back(ask(connection, request));
    EXPECT_EQ(server.terminate(), 0);
  }

  test::server_process server;
  std::vector<answer> together(clients);
  std::vector<std::string> failures(clients);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < clients; ++i)
    threads.emplace_back([&, i] {
      try {
        together[i] =
            ask(client::connect(server.endpoint(), {.timeout = std::chrono::seconds(30)}), requests[i]);
      } catch (const std::exception& problem) {
        failures[i] = problem.what();
      }
    });
  for (auto& thread : threads) thread.join();
  for (std::size_t i = 0; i < clients; ++i) {
    EXPECT_EQ(failures[i], "") << "client " << i;
    EXPECT_EQ(together[i], alone[i]) << "client " << i;
  }
  const auto cache = client::connect(server.endpoint()).status().cache;
  EXPECT_EQ(cache.free_blocks, cache.blocks);
  EXPECT_EQ(server.terminate(), 0);
}

}  // namespace
}  // namespace troupe
