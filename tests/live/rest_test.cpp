// Models that take no requests for a while: drained, or asleep without their weights.
#include "tests/live/live_server.hpp"

namespace troupe::test {
namespace {

using testing::HasSubstr;

TEST_F(Live, SleepsAndWakesWithTheSameTokens) {
  const auto expected = run(50);
  const auto asleep = server.sleep("fox");
  EXPECT_GT(asleep.bytes_freed, 0u);
  EXPECT_THAT(joined(asleep.report),
              HasSubstr("no copy in host memory: its weights are a mapping of its files"));
  EXPECT_EQ(asleep.info.new_generation, 1u);
  EXPECT_EQ(fox().state, "asleep");
  EXPECT_EQ(fox().weight_bytes, 0u);
  const auto why =
      refusal([&] { read_all(*std::make_unique<client::stream>(connection.generate(request(0, 5)))); });
  EXPECT_EQ(why.code(), error_code::unavailable);
  EXPECT_THAT(why.what(), HasSubstr("asleep"));
  EXPECT_EQ(refusal([&] { server.swap("fox", version("reordered")); }).code(), error_code::conflict);
  const auto awake = server.wake("fox");
  EXPECT_EQ(awake.info.state, "done");
  EXPECT_THAT(joined(awake.report), HasSubstr("loaded from its files"));
  EXPECT_EQ(fox().state, "ready");
  EXPECT_EQ(run(50), expected);
  EXPECT_EQ(refusal([&] { server.wake("fox"); }).code(), error_code::conflict);
}

TEST_F(Live, WaitsForOpenStreamsWhenItIsDrained) {
  const auto expected = run(300);
  std::vector<std::unique_ptr<reader>> open;
  for (int i = 0; i < stream_count; ++i)
    open.push_back(std::make_unique<reader>(connection, request(i, 300)));
  for (auto& r : open) r->wait_for(1);
  const auto drained = server.drain("fox");
  EXPECT_EQ(drained.streams_ended, 0u);
  for (std::size_t i = 0; i < open.size(); ++i) EXPECT_EQ(open[i]->ids(), expected[i]) << open[i]->problem();
  EXPECT_EQ(fox().state, "drained");
  server.wake("fox");
  EXPECT_EQ(run(300), expected);
}

TEST_F(Live, EndsStreamsAtTheDeadlineOfADrain) {
  auto streams = start();
  const auto drained = server.drain("fox", 50ms);
  EXPECT_EQ(drained.streams_ended, 3u);
  for (auto& s : streams) EXPECT_THAT(s->problem(), HasSubstr("not served any more"));
  server.wake("fox");
}

TEST_F(Live, LeavesTheMemoryOfASleepingModelToOthers) {
  server.sleep("fox");
  EXPECT_EQ(connection.status().cache.free_blocks, connection.status().cache.blocks);
  EXPECT_EQ(connection.status().cache.cached_blocks, 0u);
  server.load(demo_model, "owl");
  server.wake("fox");
  EXPECT_EQ(connection.models().size(), 2u);
}

}  // namespace
}  // namespace troupe::test
