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

reply_message final_of(std::uint64_t id) {
  wire::FinalT final;
  final.usage = std::make_unique<wire::UsageT>();
  flatbuffers::FlatBufferBuilder b;
  return make_reply(b, id, wire::CreateFinal(b, &final));
}

reply_message decoded(std::uint64_t id, std::size_t bytes) {
  flatbuffers::FlatBufferBuilder b;
  auto text = b.CreateString(std::string(bytes, 'x'));
  return make_reply(b, id, wire::CreateDecodedText(b, text));
}

class SendQueues : public ::testing::Test {
 protected:
  send_outcome way_ = send_outcome::sent;
  std::vector<std::uint64_t> sent_;
  std::vector<wire::ReplyBody> types_;
  std::vector<std::string> lost_;
  send_queues queues_{[this](const std::string&, const reply_message& r) {
                        if (way_ == send_outcome::sent) {
                          sent_.push_back(r->id());
                          types_.push_back(r->body_type());
                        }
                        return way_;
                      },
                      {3, 4096}};
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

TEST_F(SendQueues, EndsAStreamThatHasLostAChunkInAnErrorEvenIfItsFinalIsThere) {
  way_ = send_outcome::full;
  queues_.push("x", chunk(1));
  queues_.push("x", final_of(1));
  queues_.push("x", final_of(2));
  EXPECT_EQ(queues_.push("x", chunk(3)), send_queues::outcome::overflow);
  way_ = send_outcome::sent;
  retry();
  EXPECT_THAT(sent_, ElementsAre(1, 2));
  EXPECT_THAT(types_, ElementsAre(wire::ReplyBody::Error, wire::ReplyBody::Final));
}

TEST_F(SendQueues, SendsNothingOfATornStreamButItsEndAsAnError) {
  way_ = send_outcome::full;
  for (std::uint64_t id = 1; id <= 4; ++id) queues_.push("x", chunk(id));
  way_ = send_outcome::sent;
  retry();
  EXPECT_TRUE(queues_.empty());
  queues_.push("x", chunk(1));
  queues_.push("x", final_of(1));
  queues_.push("x", error_reply(2, error_code::overloaded, "too slow"));
  EXPECT_THAT(sent_, ElementsAre(1, 2));
  EXPECT_THAT(types_, ElementsAre(wire::ReplyBody::Error, wire::ReplyBody::Error));
  queues_.push("x", chunk(1));  // the id is used again
  queues_.push("x", final_of(1));
  EXPECT_THAT(types_, ElementsAre(wire::ReplyBody::Error, wire::ReplyBody::Error, wire::ReplyBody::Chunk,
                                  wire::ReplyBody::Final));
}

TEST_F(SendQueues, KeepsEndsBeyondTheLimit) {
  way_ = send_outcome::full;
  for (std::uint64_t id = 1; id <= 6; ++id) queues_.push("x", final_of(id));
  way_ = send_outcome::sent;
  retry();
  EXPECT_THAT(sent_, ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST_F(SendQueues, BoundsTheEndsOfAClientThatAsksWithoutReading) {
  way_ = send_outcome::full;
  for (std::uint64_t id = 1; id <= 100; ++id) queues_.push("x", final_of(id));
  way_ = send_outcome::sent;
  retry();
  EXPECT_EQ(sent_.size(), 12U);
}

TEST_F(SendQueues, BoundsTheBytesThatWait) {
  way_ = send_outcome::full;
  EXPECT_EQ(queues_.push("x", decoded(1, 3000)), send_queues::outcome::accepted);
  EXPECT_EQ(queues_.push("x", decoded(2, 3000)), send_queues::outcome::overflow);
  way_ = send_outcome::sent;
  retry();
  EXPECT_THAT(sent_, ElementsAre(1, 2));
  EXPECT_THAT(types_, ElementsAre(wire::ReplyBody::Error, wire::ReplyBody::Error));
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
