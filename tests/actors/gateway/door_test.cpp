// The ZeroMQ door over real loopback sockets, with a listener in place of the gateway.
#include <gmock/gmock.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <thread>

#include "actors/gateway/zmq/zmq_door.hpp"
#include "kernel/telemetry/log.hpp"
#include "tests/actors/gateway/raw_client.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::gateway::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

door_options loopback() {
  door_options o;
  o.endpoints = {"tcp://127.0.0.1:*"};
  o.beat = 20ms;
  return o;
}

// Keeps what arrives and answers requests with a ModelList.
class listener {
 public:
  explicit listener(std::shared_ptr<zmq_door> door) : door_(std::move(door)) {
    number_ = door_->listen([this] { take(); });
  }
  ~listener() { door_->unlisten(number_); }

  bool wait_for(const std::function<bool(const std::vector<arrival>&)>& enough) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 10s, [&] { return enough(arrivals_); });
  }
  bool wait_for(arrival::what kind, std::size_t count = 1) {
    return wait_for([&](const auto& all) {
      return static_cast<std::size_t>(std::ranges::count(all, kind, &arrival::kind)) >= count;
    });
  }
  std::vector<arrival> all() {
    std::lock_guard lock(mutex_);
    return arrivals_;
  }

 private:
  void take() {
    std::vector<std::pair<std::string, reply_message>> replies;
    std::vector<arrival> taken;
    while (auto a = door_->take()) {
      if (a->kind == arrival::what::request) {
        flatbuffers::FlatBufferBuilder b;
        auto none = b.CreateVector(std::vector<flatbuffers::Offset<wire::ModelInfo>>{});
        replies.emplace_back(a->client, make_reply(b, a->request->id(), wire::CreateModelList(b, none)));
      }
      taken.push_back(std::move(*a));
    }
    door_->send(std::move(replies));  // before the test knows
    std::lock_guard lock(mutex_);
    std::ranges::move(taken, std::back_inserter(arrivals_));
    changed_.notify_all();
  }

  std::shared_ptr<zmq_door> door_;
  std::uint64_t number_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<arrival> arrivals_;
};

class Door : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(log::configure({.least = log::level::off})); }
  std::string ipc_path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::shared_ptr<zmq_door> open(const door_options& o = loopback()) {
    auto opened = open_zmq_door(o);
    EXPECT_TRUE(opened) << opened.error().text;
    return *opened;
  }
  static bool still_answers(raw_client& client, std::uint64_t id = 4242) {
    client.ask(id, wire::ListModelsT());
    for (;;) {
      auto r = client.next();
      if (!r) return false;
      if ((*r)->id() == id && (*r)->body_as_ModelList()) return true;
    }
  }

  test::temp_folder folder_;
};

TEST_F(Door, TellsTheRealPortOfAFreeOne) {
  const auto door = open();
  ASSERT_THAT(door->endpoints(), SizeIs(1));
  EXPECT_THAT(door->endpoints()[0], HasSubstr("tcp://127.0.0.1:"));
  EXPECT_EQ(door->endpoints()[0].find('*'), std::string::npos);
}

TEST_F(Door, ListensAtSeveralEndpoints) {
  auto o = loopback();
  o.endpoints.push_back("ipc://" + ipc_path("several"));
  const auto door = open(o);
  listener l(door);
  for (const auto& endpoint : door->endpoints()) {
    raw_client client(endpoint);
    EXPECT_TRUE(still_answers(client)) << endpoint;
  }
}

TEST_F(Door, SaysThatAPortIsInUse) {
  const auto door = open();
  auto o = loopback();
  o.endpoints = door->endpoints();
  const auto second = open_zmq_door(o);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, error_code::address_in_use);
  EXPECT_THAT(second.error().text, HasSubstr(o.endpoints[0]));
}

TEST_F(Door, DoesNotTakeAnIpcPathFromALivingServer) {
  auto o = loopback();
  o.endpoints = {"ipc://" + ipc_path("taken")};
  const auto door = open(o);
  const auto second = open_zmq_door(o);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, error_code::address_in_use);
  listener l(door);
  raw_client client(o.endpoints[0]);
  EXPECT_TRUE(still_answers(client));
}

TEST_F(Door, TakesAnIpcPathThatADeadServerLeftBehind) {
  auto o = loopback();
  o.endpoints = {"ipc://" + ipc_path("left")};
  { std::ofstream(ipc_path("left")) << ""; }
  EXPECT_TRUE(open_zmq_door(o));
}

TEST_F(Door, RemovesTheFileOfAnIpcEndpointWhenItCloses) {
  const auto path = ipc_path("own");
  auto o = loopback();
  o.endpoints = {"ipc://" + path};
  auto door = open(o);
  ASSERT_TRUE(std::filesystem::exists(path));
  door->close();
  EXPECT_FALSE(std::filesystem::exists(path)) << "closed, though somebody still holds it";
  door = open(o);
  door.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(Door, LeavesTheFileOfAnotherThatHasTakenItsPlace) {
  const auto path = ipc_path("replaced");
  auto o = loopback();
  o.endpoints = {"ipc://" + path};
  auto first = open(o);
  std::filesystem::remove(path);
  const auto second = open(o);
  first.reset();
  listener l(second);
  raw_client client(o.endpoints[0]);
  EXPECT_TRUE(still_answers(client));
}

TEST_F(Door, NamesAnEndpointThatIsNone) {
  for (const std::string bad : {"nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "http://127.0.0.1:1",
                                "tcp://203.0.113.1:7410", "ipc:///no/such/folder/socket"}) {
    auto o = loopback();
    o.endpoints = {bad};
    const auto door = open_zmq_door(o);
    ASSERT_FALSE(door) << bad;
    EXPECT_EQ(door.error().code, error_code::bad_config) << bad << ": " << door.error().text;
    EXPECT_THAT(door.error().text, HasSubstr(bad));
  }
}

TEST_F(Door, AnswersBadFramesAndCountsThem) {
  const auto door = open();
  listener l(door);
  raw_client client(door->endpoints()[0]);
  client.send(std::vector<std::string>{"garbage that is no message"});
  EXPECT_EQ(client.next_error().first, error_code::invalid_frame);
  client.send(std::vector<std::string>{""});
  EXPECT_EQ(client.next_error().first, error_code::invalid_frame);
  client.send(std::vector<std::string>{"", "request of a REQ socket"});
  EXPECT_THAT(client.next_error().second, HasSubstr("use a DEALER"));
  client.send(std::vector<std::string>{"a", "b", "c", "d", "e", "f"});
  EXPECT_EQ(client.next_error().first, error_code::invalid_frame);
  client.send(request_bytes(8, wire::ListModelsT(), 3));
  EXPECT_EQ(client.next_error().first, error_code::unsupported_version);
  EXPECT_EQ(door->bad_frames(), 5U);
  EXPECT_TRUE(still_answers(client));
}

TEST_F(Door, SurvivesAThousandMutationsOfAValidRequest) {
  const auto door = open();
  listener l(door);
  raw_client client(door->endpoints()[0]);
  auto g = generate_ids({1, 2, 3, 4, 5, 6}, "demo");
  g.sampling = std::make_unique<wire::SamplingT>();
  g.sampling->top_k = 3;
  g.stop = std::make_unique<wire::StopConditionsT>();
  g.stop->strings = {"one", "two"};
  const auto valid = request_bytes(3, std::move(g));
  std::mt19937 random(20240607);
  for (int i = 0; i < 1000; ++i) {
    auto frame = valid;
    for (auto changes = 1 + random() % 4; changes > 0; --changes)
      frame[random() % frame.size()] = static_cast<std::uint8_t>(random());
    if (random() % 4 == 0) frame.resize(random() % frame.size());
    client.send(frame);
  }
  EXPECT_TRUE(still_answers(client));
  EXPECT_TRUE(l.wait_for([&](const auto& all) { return all.size() + door->bad_frames() >= 1001; }))
      << "each frame is either taken or counted as bad";
}

TEST_F(Door, SurvivesRandomFrames) {
  const auto door = open();
  listener l(door);
  raw_client client(door->endpoints()[0]);
  std::mt19937 random(7);
  for (int i = 0; i < 500; ++i) {
    std::vector<std::uint8_t> frame(random() % 300);
    for (auto& byte : frame) byte = static_cast<std::uint8_t>(random());
    client.send(frame);
  }
  EXPECT_TRUE(still_answers(client));
}

TEST_F(Door, CutsOffAClientThatSendsTooMuchAtOnce) {
  auto o = loopback();
  o.max_request_bytes = 10'000;
  const auto door = open(o);
  listener l(door);
  raw_client other(door->endpoints()[0]);
  raw_client client(door->endpoints()[0]);
  ASSERT_TRUE(still_answers(client));
  client.send(std::vector<std::uint8_t>(20'000));
  EXPECT_TRUE(l.wait_for(arrival::what::gone));
  EXPECT_TRUE(still_answers(other));
  EXPECT_TRUE(still_answers(client)) << "its socket connects again by itself";
}

TEST_F(Door, LeavesRequestsInTheSocketWhileNobodyListens) {
  const auto door = open();
  raw_client client(door->endpoints()[0]);
  client.ask(5, wire::ListModelsT());
  EXPECT_FALSE(client.next(100ms));
  EXPECT_FALSE(door->take());
  listener l(door);
  const auto r = client.next();
  ASSERT_TRUE(r);
  EXPECT_EQ((*r)->id(), 5U);
}

TEST_F(Door, TakesNoMoreThanItsInboxHolds) {
  auto o = loopback();
  o.inbox_messages = 8;
  const auto door = open(o);
  const auto number = door->listen([] {});
  raw_client client(door->endpoints()[0]);
  for (std::uint64_t id = 1; id <= 2000; ++id) client.ask(id, wire::ListModelsT());
  std::uint64_t expected = 0;
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (expected < 2000 && std::chrono::steady_clock::now() < end) {
    auto a = door->take();
    if (!a) {
      std::this_thread::sleep_for(1ms);
      continue;
    }
    ASSERT_EQ(a->request->id(), ++expected);
  }
  EXPECT_EQ(expected, 2000U);
  door->unlisten(number);
}

TEST_F(Door, NoticesAClientThatIsGoneEvenIfNothingIsSentToIt) {
  for (const std::string& endpoint : {std::string("tcp://127.0.0.1:*"), "ipc://" + ipc_path("gone")}) {
    auto o = loopback();
    o.endpoints = {endpoint};
    const auto door = open(o);
    listener l(door);
    {
      raw_client client(door->endpoints()[0]);
      ASSERT_TRUE(still_answers(client));
      EXPECT_EQ(door->clients(), 1U);
    }
    ASSERT_TRUE(l.wait_for(arrival::what::gone)) << endpoint;
    const auto all = l.all();
    EXPECT_EQ(all.front().client, all.back().client);
    for (int i = 0; i < 100 && door->clients() > 0; ++i) std::this_thread::sleep_for(10ms);
    EXPECT_EQ(door->clients(), 0U);
  }
}

TEST_F(Door, TellsThatAClientIsGoneWhenAReplyCannotBeSent) {
  const auto door = open();
  listener l(door);
  door->send({{"nobody", error_reply(1, error_code::internal, "lost")}});
  ASSERT_TRUE(l.wait_for(arrival::what::gone));
  EXPECT_EQ(l.all().back().client, "nobody");
}

TEST_F(Door, TellsThatAClientDoesNotReadAndKeepsServingOthers) {
  auto o = loopback();
  o.endpoints = {"ipc://" + ipc_path("slow")};
  o.socket_messages = 4;
  o.outbox_messages = 20;
  const auto door = open(o);
  listener l(door);
  raw_client slow(o.endpoints[0], 1);
  slow.ask(1, wire::ListModelsT());
  ASSERT_TRUE(l.wait_for(arrival::what::request));
  const auto name = l.all().front().client;
  flatbuffers::FlatBufferBuilder b;
  auto text = b.CreateString(std::string(64 << 10, 'x'));
  const auto big = make_reply(b, 1, wire::CreateChunk(b, 0, text));
  for (int i = 0; i < 200; ++i) door->send({{name, big}});
  ASSERT_TRUE(l.wait_for(arrival::what::slow));
  door->send({{name, error_reply(1, error_code::overloaded, "too slow")}});
  raw_client other(o.endpoints[0]);
  EXPECT_TRUE(still_answers(other));
  int chunks = 0;
  for (;;) {
    auto r = slow.next();
    ASSERT_TRUE(r) << "the error must come behind the chunks that were not dropped";
    if ((*r)->body_as_Chunk()) ++chunks;
    if ((*r)->body_as_Error()) break;
  }
  EXPECT_LT(chunks, 200);
}

TEST_F(Door, SendsWhatItIsOwedBeforeItCloses) {
  auto door = open();
  raw_client client(door->endpoints()[0]);
  {
    listener l(door);
    client.ask(1, wire::ListModelsT());
    ASSERT_TRUE(l.wait_for(arrival::what::request));
    door->send({{l.all().front().client, error_reply(2, error_code::shutting_down, "good bye")}});
  }
  door.reset();
  ASSERT_TRUE(client.next());
  EXPECT_EQ(client.next_error().second, "good bye");
}

TEST_F(Door, RefusesRequestsBeyondTheBytesThatMayWaitButNotCancels) {
  auto o = loopback();
  o.inbox_bytes = 10'000;
  auto door = open(o);
  const auto listening = door->listen([] {});  // takes nothing
  raw_client client(door->endpoints()[0]);
  const auto big = generate_ids(std::vector<std::int32_t>(2'000, 1));
  client.ask(1, big);
  client.ask(2, big);
  const auto refused = client.next();
  ASSERT_TRUE(refused && (*refused)->body_as_Error());
  EXPECT_EQ((*refused)->id(), 2U);
  EXPECT_EQ((*refused)->body_as_Error()->code(), error_code::overloaded);
  client.ask(3, wire::CancelT());
  EXPECT_FALSE(client.next(100ms));
  EXPECT_EQ(door->take()->request->id(), 1U);
  EXPECT_EQ(door->take()->request->id(), 3U);
  client.ask(4, big);
  EXPECT_FALSE(client.next(100ms)) << "there is room again";
  EXPECT_EQ(door->take()->request->id(), 4U);
  door->unlisten(listening);
}

}  // namespace
}  // namespace troupe::gateway::testing
