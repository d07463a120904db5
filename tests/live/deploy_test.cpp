// Other weights under a model's name: beside the old ones, for a share of the requests first.
#include <fstream>
#include <set>

#include "tests/live/live_server.hpp"

namespace troupe::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// The demo with its last tensor doubled: other tokens, no nonsense.
class Deploy : public Live {
 protected:
  Deploy() : folder_(scratch.path() / "other") {
    fs::create_directories(folder_);
    for (const auto& file : fs::directory_iterator(demo_model))
      fs::copy(file.path(), folder_ / file.path().filename());
    std::fstream f(folder_ / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    std::uint64_t head = 0;
    f.read(reinterpret_cast<char*>(&head), sizeof head);
    // The first tensor of the file, lm_head: rows of a few tokens made alike.
    std::string row(512, '\0');
    f.seekg(static_cast<std::streamoff>(8 + head + 512 * 300));
    f.read(row.data(), 512);
    for (int token = 4; token < 4000; token += 3) {
      f.seekp(static_cast<std::streamoff>(8 + head + 512 * static_cast<std::uint64_t>(token)));
      f.write(row.data(), 512);
    }
  }
  client::deploy_options soon() const {
    client::deploy_options o;
    o.probation = 200ms;
    return o;
  }
  fs::path folder_;
};

TEST_F(Deploy, ServesTheNewWeightsAndLetsOldStreamsFinish) {
  const auto expected = run(1200);
  std::vector<std::unique_ptr<reader>> open;
  for (int i = 0; i < stream_count; ++i)
    open.push_back(std::make_unique<reader>(connection, request(i, 1200)));
  const auto done = server.deploy("fox", folder_.string(), soon());
  for (std::size_t i = 0; i < open.size(); ++i)
    EXPECT_TRUE(open[i]->ids() == expected[i]) << open[i]->problem();
  EXPECT_EQ(done.info.state, "done");
  EXPECT_EQ(done.info.new_generation, 2u);
  EXPECT_GT(done.bytes_freed, 0u);
  EXPECT_EQ(fox().checkpoint, folder_.string());
  const auto other = run(50);
  EXPECT_EQ(instances(), 1u);
  server.rollback("fox");
  const auto back = run(50);
  EXPECT_NE(back, other);
  for (std::size_t i = 0; i < back.size(); ++i)
    EXPECT_TRUE(std::equal(back[i].begin(), back[i].end(), expected[i].begin()));
}

TEST_F(Deploy, GivesTheCandidateItsShareAndTakesItBack) {
  const auto old = run(20)[0];
  auto wanted = soon();
  wanted.probation = 10min;
  wanted.share_percent = 25;
  std::thread other([&] {
    refusal([&] { client::operations(running.connect()).deploy("fox", folder_.string(), wanted); });
  });
  wait_for_state("watching");
  int on_candidate = 0;
  for (int i = 0; i < 40; ++i)
    if (reader(connection, request(0, 20)).ids() != old) ++on_candidate;
  EXPECT_EQ(on_candidate, 10);
  auto streams = start();
  server.rollback("fox");
  other.join();
  for (auto& s : streams) {
    s->stop_after(50);
    EXPECT_EQ(s->problem(), "");
  }
  EXPECT_EQ(run(20)[0], old);
  EXPECT_EQ(instances(), 1u);
}

TEST_F(Deploy, KeepsAClientWithWhatItGotFirstIfAsked) {
  const auto old = run(20)[0];
  auto wanted = soon();
  wanted.probation = 10min;
  wanted.share_percent = 50;
  wanted.sticky = true;
  std::thread other([&] {
    refusal([&] { client::operations(running.connect()).deploy("fox", folder_.string(), wanted); });
  });
  wait_for_state("watching");
  int on_candidate = 0;
  for (int i = 0; i < 12; ++i) {
    const auto someone = running.connect();
    std::set<bool> seen;
    for (int j = 0; j < 3; ++j) seen.insert(reader(someone, request(0, 20)).ids() != old);
    EXPECT_EQ(seen.size(), 1u);
    if (*seen.begin()) ++on_candidate;
  }
  EXPECT_GT(on_candidate, 0);
  EXPECT_LT(on_candidate, 12);
  server.promote("fox");
  other.join();
  EXPECT_EQ(fox().generation, 2u);
}

TEST_F(Deploy, PromotesAfterSoManySequences) {
  auto wanted = soon();
  wanted.probation = 0ms;
  wanted.probation_requests = 3;
  std::thread other([&] { client::operations(running.connect()).deploy("fox", folder_.string(), wanted); });
  wait_for_state("watching");
  for (int i = 0; i < 3; ++i) reader(connection, request(0, 5)).ids();
  other.join();
  EXPECT_EQ(fox().generation, 2u);
}

TEST_F(Deploy, RefusesToCarryCachesOverToOtherWeights) {
  auto wanted = soon();
  wanted.move = client::move::carry;
  EXPECT_EQ(refusal([&] { server.deploy("fox", folder_.string(), wanted); }).code(), error_code::unsupported);
}

}  // namespace
}  // namespace troupe::test
