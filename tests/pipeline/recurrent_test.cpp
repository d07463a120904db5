// A model with recurrent state behind the whole pipeline: small batches, cut prompts, preemption; every stream must be the
// reference's, token for token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/demo_server.hpp"

namespace troupe::test {
namespace {

struct reference {
  std::vector<std::int32_t> ids;
  std::string text;  // 64 tokens, or up to the end of sequence
};

// The recorded prompts of up to `longest` tokens.
std::vector<reference> references(std::size_t longest) {
  std::ifstream file(TROUPE_SOURCE_DIR "/tests/golden/jamba/prompts.json");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto goldens = boost::json::parse(text);
  std::vector<reference> out;
  for (const auto& prompt : goldens.at("prompts").as_array()) {
    auto ids = boost::json::value_to<std::vector<std::int32_t>>(prompt.at("ids"));
    if (ids.size() <= longest)
      out.push_back({std::move(ids), std::string(prompt.at("greedy_text").as_string())});
  }
  return out;
}

client::stream begin(const client::connection& server, const reference& r) {
  client::generate_request request;
  request.prompt = client::token_prompt{r.ids};
  request.sampling = client::sampling_options{.temperature = 0};
  request.stop.max_tokens = 64;
  return server.generate(request);
}

void expect_references(const client::connection& server, const std::vector<reference>& wanted) {
  std::vector<client::stream> streams;
  for (const auto& r : wanted) streams.push_back(begin(server, r));
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_EQ(read_all(streams[i]), wanted[i].text) << i;
}

TEST(RecurrentState, IsEachStreamsOwnInABatchWithoutAPlaceToSpare) {
  demo_server running([](server_options& o) {
    o.config.models = {{.path = recurrent_demo_model}};
    o.config.scheduler.max_sequences = 3;
    o.config.scheduler.step_tokens = 24;
  });
  const auto wanted = references(200);
  ASSERT_GT(wanted.size(), 10u);
  expect_references(running.connect(), wanted);
  // Again: prompts whose K/V may lie in the cache, but whose state does not.
  expect_references(running.connect(), wanted);
}

TEST(RecurrentState, IsComputedAgainForWhatHadToMakeRoom) {
  demo_server running([](server_options& o) {
    o.config.models = {{.path = recurrent_demo_model}};
    o.config.cache.memory = {std::uint64_t{192} << 10};  // 24 blocks of 16 tokens
    o.config.cache.block = config::byte_count{8 << 10};
  });
  const auto server = running.connect();
  expect_references(server, references(60));
  const auto cache = server.status().cache;
  EXPECT_EQ(cache.free_blocks, cache.blocks);
}

}  // namespace
}  // namespace troupe::test
