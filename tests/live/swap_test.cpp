// Swapping a model's module while its streams run.
#include <algorithm>

#include "tests/live/live_server.hpp"

namespace troupe::test {
namespace {

using testing::HasSubstr;

client::swap_options soon(client::verify v = client::verify::exact) {
  client::swap_options o;
  o.verify = v;
  o.probation = 200ms;
  return o;
}

TEST_F(Live, CarriesStreamsOverToAnotherVersionWithTheSameResults) {
  const auto expected = run(100);
  auto streams = start();
  const auto done = server.swap("fox", version("reordered"), soon());
  EXPECT_EQ(done.info.state, "done");
  EXPECT_EQ(done.info.new_generation, 2u);
  EXPECT_TRUE(done.caches_kept);
  EXPECT_EQ(done.sequences_continued, 3u);
  EXPECT_EQ(done.sequences_recomputed, 0u);
  EXPECT_GT(done.bytes_shared, 0u);
  EXPECT_GT(done.bytes_freed, 0u);
  EXPECT_GT(done.pause_ms, 0);
  EXPECT_THAT(joined(done.report), HasSubstr("the same bits"));
  EXPECT_EQ(fox().generation, 2u);
  EXPECT_EQ(fox().module, "mixtral 2.1");
  expect_undisturbed(streams);
  EXPECT_EQ(run(100), expected) << "as with the version before, with the prefixes that were kept";
}

TEST_F(Live, RecomputesStreamsWhereTheCacheLayoutsDiffer) {
  const auto expected = run(100);
  auto streams = start();
  const auto done = server.swap("fox", version("two_caches"), soon());
  EXPECT_FALSE(done.caches_kept);
  EXPECT_EQ(done.sequences_recomputed, 3u);
  EXPECT_THAT(joined(done.report), HasSubstr("recomputed from their tokens"));
  expect_undisturbed(streams);
  EXPECT_EQ(run(100), expected);
}

TEST_F(Live, RefusesToCarryWhatTheNewVersionCannotRead) {
  auto wanted = soon();
  wanted.move = client::move::carry;
  const auto why = refusal([&] { server.swap("fox", version("two_caches"), wanted); });
  EXPECT_EQ(why.code(), error_code::unsupported);
  EXPECT_THAT(why.what(), HasSubstr("cache layouts differ"));
  EXPECT_EQ(fox().generation, 1u);
}

TEST_F(Live, RefusesOtherResultsUnlessTheyAreMeant) {
  const auto why = refusal([&] { server.swap("fox", version("other_results"), soon()); });
  EXPECT_EQ(why.code(), error_code::conflict);
  EXPECT_THAT(why.what(), HasSubstr("its results differ"));
  EXPECT_THAT(why.what(), HasSubstr("largest difference of a logit"));
  auto little = soon(client::verify::max_logit_diff);
  little.max_logit_diff = 1e-4F;
  EXPECT_THAT(refusal([&] { server.swap("fox", version("other_results"), little); }).what(),
              HasSubstr("differ by more than"));
  little.max_logit_diff = 1e4F;
  EXPECT_EQ(server.swap("fox", version("other_results"), little).info.new_generation, 2u);
}

// Behind the switch stands exactly what the new version makes of the tokens before it.
TEST_F(Live, GoesOnWithTheNewVersionsTokensBehindTheSwitch) {
  auto streams = start();
  auto wanted = soon(client::verify::off);
  wanted.move = client::move::recompute;
  EXPECT_EQ(server.swap("fox", version("other_results"), wanted).info.state, "done");
  std::vector<std::uint32_t> lengths;
  for (auto& s : streams) lengths.push_back(static_cast<std::uint32_t>(s->stop_after(200).size()));
  server.rollback("fox");
  const auto before = run(lengths);  // of the old version
  server.rollback("fox");
  for (std::size_t i = 0; i < streams.size(); ++i) {
    const auto& ids = streams[i]->ids();
    const auto at = std::ranges::mismatch(ids, before[i]).in1 - ids.begin();
    ASSERT_LT(static_cast<std::size_t>(at), ids.size())
        << "the versions do not differ enough to see anything";
    if (i == 2) continue;  // drawn: a continuation by itself would draw anew
    auto again = request(static_cast<int>(i), lengths[i] - static_cast<std::uint32_t>(at));
    auto prompt = connection.tokenize(std::get<client::text_prompt>(again.prompt).text).ids;
    prompt.insert(prompt.end(), ids.begin(), ids.begin() + at);
    again.prompt = client::token_prompt{prompt};
    const std::vector<std::int32_t> rest(ids.begin() + at, ids.end());
    EXPECT_TRUE(reader(connection, again).ids() == rest) << "stream " << i << " from token " << at;
  }
}

TEST_F(Live, LetsStreamsFinishOnTheOldVersionIfAsked) {
  const auto expected = run(1500);
  std::vector<std::unique_ptr<reader>> open;
  for (int i = 0; i < stream_count; ++i)
    open.push_back(std::make_unique<reader>(connection, request(i, 1500)));
  auto wanted = soon(client::verify::off);
  wanted.move = client::move::finish;
  const auto done = server.swap("fox", version("other_results"), wanted);
  EXPECT_EQ(done.info.state, "done");
  for (std::size_t i = 0; i < open.size(); ++i)
    EXPECT_TRUE(open[i]->ids() == expected[i]) << open[i]->problem();
  EXPECT_NE(run(100)[0], std::vector<std::int32_t>(expected[0].begin(), expected[0].begin() + 100))
      << "new streams run on the new version";
  EXPECT_EQ(instances(), 1u) << "nothing is left of the old instance";
}

TEST_F(Live, RecomputesWhatHasNotFinishedInTime) {
  std::vector<std::unique_ptr<reader>> open;
  for (int i = 0; i < stream_count; ++i)
    open.push_back(std::make_unique<reader>(connection, request(i, 2500)));
  auto wanted = soon();
  wanted.move = client::move::finish;
  wanted.deadline = 1ms;
  EXPECT_EQ(server.swap("fox", version("two_caches"), wanted).info.state, "done");
  const auto expected = run(2500);
  for (std::size_t i = 0; i < open.size(); ++i)
    EXPECT_TRUE(open[i]->ids() == expected[i]) << open[i]->problem();
}

TEST_F(Live, TakesBackAndPromotesWhatIsOnProbationWhenTheOperatorSaysSo) {
  auto wanted = soon();
  wanted.probation = 10min;
  for (const bool promote : {false, true}) {
    std::optional<client::operated> swapped;
    std::string refused;
    std::thread other([&] {
      try {
        swapped = client::operations(running.connect()).swap("fox", version("reordered"), wanted);
      } catch (const client::failure& f) {
        refused = f.what();
      }
    });
    wait_for_state("watching");
    EXPECT_EQ(fox().generation, 1u) << "not promoted yet";
    client::operation_options only_looking;
    only_looking.dry_run = true;
    EXPECT_THAT(joined(server.promote("fox", only_looking).report), HasSubstr("would"));
    EXPECT_THAT(joined(server.rollback("fox", 0ms, only_looking).report), HasSubstr("would"));
    EXPECT_EQ(state_of_last(), "watching");
    const auto done = promote ? server.promote("fox") : server.rollback("fox");
    other.join();
    EXPECT_EQ(done.info.state, promote ? "done" : "undone");
    EXPECT_EQ(swapped.has_value(), promote);
    if (!promote) {
      EXPECT_THAT(refused, HasSubstr("rolled back by the operator"));
    }
    EXPECT_EQ(fox().generation, promote ? 2u : 1u);
  }
  EXPECT_EQ(refusal([&] { server.promote("fox"); }).code(), error_code::conflict);
}

TEST_F(Live, GoesBackToTheVersionBeforeTheLastCommit) {
  EXPECT_EQ(refusal([&] { server.rollback("fox"); }).code(), error_code::conflict);
  const auto expected = run(50);
  server.swap("fox", version("other_results"), soon(client::verify::off));
  EXPECT_NE(run(50), expected);
  const auto done = server.rollback("fox");
  EXPECT_EQ(done.info.new_generation, 3u);
  EXPECT_EQ(fox().module, "mixtral 1.0.0");
  EXPECT_EQ(run(50), expected);
  server.rollback("fox");
  EXPECT_EQ(fox().module, "mixtral 2.3") << "back and forth";
}

TEST_F(Live, SaysBeforehandWhatASwapWouldDo) {
  client::operation_options how;
  how.dry_run = true;
  const auto told = server.swap("fox", version("two_caches"), soon(), how);
  EXPECT_EQ(told.info.new_generation, 1u);
  EXPECT_THAT(joined(told.report), HasSubstr("recomputed from their tokens"));
  EXPECT_THAT(joined(told.report), HasSubstr("cache even: the first Program has none of this name"));
  EXPECT_EQ(fox().module, "mixtral 1.0.0");
}

TEST_F(Live, ClosesALibraryWithTheLastVersionThatUsesIt) {
  const auto is_mapped = [](const std::string& sha256) {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);)
      if (line.find(sha256) != std::string::npos) return true;
    return false;
  };
  server.swap("fox", version("with_native_op"), soon());
  const auto sha256 = fox().module_sha256;
  EXPECT_TRUE(is_mapped(sha256));
  const auto done = server.swap("fox", version("reordered"), soon());
  EXPECT_THAT(joined(done.report), HasSubstr("closed, and absent from the process map"));
  EXPECT_FALSE(is_mapped(sha256));
}

TEST_F(Live, ComparesGenerationsAndKeepsPinnedModels) {
  client::operation_options how;
  how.expected_generation = 4;
  EXPECT_EQ(refusal([&] { server.swap("fox", version("reordered"), soon(), how); }).code(),
            error_code::conflict);
  server.pin("fox");
  EXPECT_TRUE(fox().pinned);
  EXPECT_THAT(refusal([&] { server.swap("fox", version("reordered"), soon()); }).what(), HasSubstr("pinned"));
  EXPECT_THAT(refusal([&] { server.unload("fox"); }).what(), HasSubstr("pinned"));
  server.pin("fox", false);
  EXPECT_FALSE(fox().pinned);
  EXPECT_EQ(server.swap("fox", version("reordered"), soon()).info.new_generation, 2u);
}

}  // namespace
}  // namespace troupe::test
