#include "actors/gateway/zmq/send_queues.hpp"

#include <gmock/gmock.h>

#include <map>

namespace troupe::gateway {
namespace {

using ::testing::ElementsAre;

reply_message chunk(std::uint64_t id) {
  flatbuffers::FlatBufferBuilder b;
  return make_reply(b, id, wire::CreateChunk(b));
}

class SendQueues : public ::testing::Test {
 protected:
  send_outcome way_ = send_outcome::sent;
  std::vector<std::uint64_t> sent_;
  std::vector<std::string> lost_;
  send_queues queues_{[this](const std::string&, const reply_message& r) {
                        if (way_ == send_outcome::sent) sent_.push_back(r->id());
                        return way_;
                      },
                      3};
  void retry() {
    queues_.retry([this](const std::string& client) { lost_.push_back(client); });
  }
};

TEST_F(SendQueues, SendsAtOnceIfItCan) {
  EXPECT_EQ(queues_.push("x", chunk(1)), send_queues::outcome::accepted);
  EXPECT_THAT(sent_, ElementsAre(1));
  EXPECT_TRUE(queues_.empty());
}

TEST_F(SendQueues, KeepsTheOrderOfWhatWaits) {
  way_ = send_outcome::full;
  queues_.push("x", chunk(1));
  way_ = send_outcome::sent;
  queues_.push("x", chunk(2));
  EXPECT_THAT(sent_, ElementsAre());
  retry();
  EXPECT_THAT(sent_, ElementsAre(1, 2));
  EXPECT_TRUE(queues_.empty());
}

TEST_F(SendQueues, DropsChunksButNotEndsOfASlowClient) {
  way_ = send_outcome::full;
  queues_.push("x", error_reply(9, error_code::internal, "end"));
  queues_.push("x", chunk(1));
  queues_.push("x", chunk(2));
  EXPECT_EQ(queues_.push("x", chunk(3)), send_queues::outcome::overflow);
  queues_.push("x", error_reply(10, error_code::overloaded, "too slow"));
  way_ = send_outcome::sent;
  retry();
  EXPECT_THAT(sent_, ElementsAre(9, 10));
}

TEST_F(SendQueues, TellsOfClientsThatCannotBeReached) {
  way_ = send_outcome::unreachable;
  EXPECT_EQ(queues_.push("x", chunk(1)), send_queues::outcome::unreachable);
  EXPECT_TRUE(queues_.empty());
  way_ = send_outcome::full;
  queues_.push("y", chunk(1));
  way_ = send_outcome::unreachable;
  retry();
  EXPECT_THAT(lost_, ElementsAre("y"));
  EXPECT_TRUE(queues_.empty());
}

TEST_F(SendQueues, OneClientsQueueDoesNotHoldUpAnothers) {
  way_ = send_outcome::full;
  queues_.push("x", chunk(1));
  way_ = send_outcome::sent;
  queues_.push("y", chunk(2));
  EXPECT_THAT(sent_, ElementsAre(2));
}

}  // namespace
}  // namespace troupe::gateway
