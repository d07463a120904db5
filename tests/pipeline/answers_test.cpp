// From socket to socket: a client asks, the whole pipeline answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/demo_server.hpp"

namespace troupe::test {
namespace {

boost::json::object golden(const std::string& id) {
  std::ifstream file(TROUPE_SOURCE_DIR "/tests/golden/mixtral/prompts.json");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto goldens = boost::json::parse(text);
  for (const auto& prompt : goldens.at("prompts").as_array())
    if (prompt.at("id").as_string() == id) return prompt.as_object();
  throw std::runtime_error("no golden " + id);
}

class Answers : public testing::Test {
 protected:
  static void SetUpTestSuite() { running_ = std::make_unique<demo_server>(); }
  static void TearDownTestSuite() { running_.reset(); }
  client::connection server_ = running_->connect();
  static inline std::unique_ptr<demo_server> running_;
};

TEST_F(Answers, KnowsTheCapitalOfFrance) {
  const auto expected = golden("chat_capital");
  auto stream = server_.generate(chat_request("What is the capital of France?"));
  EXPECT_EQ(read_all(stream), expected.at("greedy_text").as_string());
  const auto& end = stream.final();
  ASSERT_EQ(end.choices.size(), 1u);
  EXPECT_EQ(end.choices[0].finish, client::finish_reason::stop);
  EXPECT_EQ(end.usage.prompt_tokens, expected.at("n_prompt").as_int64());
  EXPECT_EQ(end.usage.generated_tokens, expected.at("first_stop").as_int64() + 1);
}

TEST_F(Answers, ContinuesATextTokenForToken) {
  const auto expected = golden("text_once");
  client::generate_request request;
  request.prompt = client::text_prompt{std::string(expected.at("text").as_string())};
  request.sampling = client::sampling_options{.temperature = 0};
  request.stop.max_tokens = 64;
  auto stream = server_.generate(request);
  EXPECT_EQ(read_all(stream), expected.at("greedy_text").as_string());
  EXPECT_EQ(stream.final().choices.at(0).finish, client::finish_reason::length);
}

TEST_F(Answers, StreamsInPieces) {
  auto stream = server_.generate(long_request(64));
  int pieces = 0;
  while (stream.next(patience)) ++pieces;
  EXPECT_GT(pieces, 16);
}

TEST_F(Answers, DescribesItsModel) {
  const auto models = server_.models();
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0].name, "mixtral-demo");
  EXPECT_EQ(models[0].architecture, "MixtralForCausalLM");
  EXPECT_EQ(models[0].state, "ready");
  EXPECT_EQ(models[0].context_tokens, 32768u);
  EXPECT_EQ(models[0].vocabulary, 4096u);
  EXPECT_EQ(models[0].module_sha256.size(), 64u);
}

TEST_F(Answers, ReportsItsStatus) {
  const auto status = server_.status();
  EXPECT_EQ(status.cache.blocks, 1024u);
  EXPECT_EQ(status.cache.block_bytes, 65536u);
  EXPECT_GE(status.clients, 1u);
  EXPECT_TRUE(status.restarts.empty());
}

TEST_F(Answers, RefusesAModelThatItDoesNotServe) {
  auto request = chat_request("Hello!");
  request.model = "mixtral-dmo";
  auto stream = server_.generate(request);
  try {
    read_all(stream);
    FAIL() << "answered";
  } catch (const client::failure& refused) {
    EXPECT_EQ(refused.code(), error_code::unknown_model);
    EXPECT_THAT(refused.what(), testing::HasSubstr("mixtral-demo"));
  }
}

TEST(Pipeline, ServesSeveralModelsAtOnce) {
  demo_server running([](server_options& o) {
    o.config.models = {{.name = "a", .path = demo_model},
                       {.name = "b", .path = demo_model, .max_context = 64}};
    o.config.tokenizer.workers = 2;
  });
  const auto server = running.connect();
  const auto ask = [&](const std::string& model) {
    auto request = long_request(32);
    request.model = model;
    auto stream = server.generate(request);
    return read_all(stream);
  };
  std::string a, b;
  std::thread other([&] { b = ask("b"); });
  a = ask("a");
  other.join();
  EXPECT_FALSE(a.empty());
  EXPECT_EQ(a, b);
  EXPECT_EQ(server.models().at(1).context_tokens, 64u);
  client::generate_request long_one;
  long_one.model = "b";
  long_one.prompt = client::token_prompt{std::vector<std::int32_t>(65, 300)};
  auto stream = server.generate(long_one);
  try {
    read_all(stream);
    FAIL() << "answered";
  } catch (const client::failure& refused) {
    EXPECT_EQ(refused.code(), error_code::context_exceeded);
    EXPECT_THAT(refused.what(), testing::HasSubstr("64"));
  }
}

TEST(Pipeline, ListensAtSeveralEndpoints) {
  temp_folder folder;
  demo_server running([&](server_options& o) {
    o.config.server.listen = {"tcp://127.0.0.1:*", "ipc://" + (folder.path() / "socket").string()};
  });
  ASSERT_EQ(running->endpoints().size(), 2u);
  for (const auto& endpoint : running->endpoints()) {
    auto stream = client::connect(endpoint).generate(chat_request("What is 12 + 9?"));
    EXPECT_EQ(read_all(stream), "12 + 9 = 21.") << endpoint;
  }
}

TEST(Pipeline, StartsAndStopsAgainAndAgain) {
  for (int i = 0; i < 5; ++i) {
    demo_server running;
    auto stream = running.connect().generate(chat_request("Hello!"));
    EXPECT_EQ(read_all(stream), "Hello! How can I help you today?");
  }
}

}  // namespace
}  // namespace troupe::test
