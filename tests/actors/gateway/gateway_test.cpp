// The gateway behind a real door on loopback sockets, in front of workers, schedulers and a cache manager that play their parts.
#include "actors/gateway/gateway.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "kernel/supervision/supervisor.hpp"
#include "kernel/telemetry/log.hpp"
#include "tests/actors/gateway/raw_client.hpp"
#include "tests/support/demo_model.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::gateway::testing {
namespace {

using ::testing::HasSubstr;

// What the actors behind the gateway have been told.
class stage_log {
 public:
  void admitted(std::uint64_t stream) {
    add([&] { admitted_.push_back(stream); });
  }
  void abandoned(std::uint64_t stream, error_code why) {
    add([&] { abandoned_.emplace_back(stream, why); });
  }
  void aborted(std::uint64_t stream) {
    add([&] { aborted_.push_back(stream); });
  }

  bool wait_admitted(std::size_t count) {
    return wait([&] { return admitted_.size() >= count; });
  }
  bool wait_abandoned(std::size_t count) {
    return wait([&] { return abandoned_.size() >= count; });
  }
  bool wait_aborted(std::size_t count) {
    return wait([&] { return aborted_.size() >= count; });
  }
  std::vector<std::uint64_t> admitted() { return copy(admitted_); }
  std::vector<std::pair<std::uint64_t, error_code>> abandoned() { return copy(abandoned_); }

 private:
  template <class F>
  void add(F f) {
    {
      std::lock_guard lock(mutex_);
      f();
    }
    changed_.notify_all();
  }
  template <class F>
  bool wait(F f) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 10s, f);
  }
  template <class T>
  T copy(const T& t) {
    std::lock_guard lock(mutex_);
    return t;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint64_t> admitted_, aborted_;
  std::vector<std::pair<std::uint64_t, error_code>> abandoned_;
};

// The first id of a TokenPrompt says what to do.
enum script : std::int32_t { answer_at_once = 1, stay_open = 2, flood = 3 };

reply_message chunk_reply(std::uint64_t id, const std::string& text) {
  flatbuffers::FlatBufferBuilder b;
  auto words = b.CreateString(text);
  return make_reply(b, id, wire::CreateChunk(b, 0, words));
}

reply_message final_reply(std::uint64_t id, wire::FinishReason finish) {
  wire::FinalT f;
  f.usage = std::make_unique<wire::UsageT>();
  f.choices.push_back(std::make_unique<wire::ChoiceEndT>());
  f.choices.back()->finish = finish;
  flatbuffers::FlatBufferBuilder b;
  return make_reply(b, id, wire::CreateFinal(b, &f));
}

struct fake_worker {
  stage_log* log;
  std::string name;
  std::map<std::uint64_t, std::pair<gateway_actor, std::uint64_t>> open = {};  // stream: who asked, request
};

tokenizer_actor::behavior_type run_worker(tokenizer_actor::pointer self, std::shared_ptr<fake_worker> w) {
  return {
      [](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
      [self, w](admit_atom, std::uint64_t stream, const message<wire::ClientRequest>& r, std::uint64_t) {
        auto gateway = caf::actor_cast<gateway_actor>(self->current_sender());
        const auto* g = r->body_as_Generate();
        const auto what = g && g->prompt_as_TokenPrompt() ? g->prompt_as_TokenPrompt()->ids()->Get(0) : 1;
        if (what == answer_at_once)
          self->send(gateway, outgoing_batch{{stream, false, chunk_reply(r->id(), "hello from " + w->name)},
                                             {stream, true, final_reply(r->id(), wire::FinishReason::stop)}});
        else
          w->open[stream] = {gateway, r->id()};
        if (what == flood) {
          const auto big = chunk_reply(r->id(), std::string(64 << 10, 'x'));
          for (int i = 0; i < 300; ++i) self->send(gateway, outgoing_batch{{stream, false, big}});
        }
        w->log->admitted(stream);
      },
      [self, w](abandon_atom, std::uint64_t stream, std::uint16_t why) {
        if (auto found = w->open.find(stream); found != w->open.end()) {
          const auto [gateway, id] = found->second;
          self->send(gateway, outgoing_batch{{stream, true, final_reply(id, wire::FinishReason::cancelled)}});
          w->open.erase(found);
        }
        w->log->abandoned(stream, static_cast<error_code>(why));
      },
      [](const message<wire::TokenBatch>&) {},
      [](redirect_atom, std::uint32_t, const caf::strong_actor_ptr&) {}};
}

scheduler_actor::behavior_type run_scheduler(scheduler_actor::pointer, stage_log* log) {
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [](const message<wire::ModelLoaded>&) {},
          [](const message<wire::Submit>&) {},
          [log](const message<wire::Abort>& a) { log->aborted(a->stream()); },
          [](const message<wire::StepResult>&) {},
          [](tick_atom) {},
          [](const message<wire::SwitchVersion>&) { return message<wire::Switched>{}; },
          [](watch_atom) { return message<wire::WatchReport>{}; },
          [](status_atom) {
            wire::SchedulerStatusT s;
            s.running = 5;
            s.waiting = 2;
            s.ready = true;
            return message<wire::SchedulerStatus>::pack(s);
          }};
}

// Answers no question.
caf::behavior run_silent_scheduler(caf::event_based_actor* self) {
  return {[self](status_atom) { return self->make_response_promise(); }};
}

cache_manager_actor::behavior_type run_cache_manager(cache_manager_actor::pointer) {
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [](const message<wire::ModelLoaded>&) {},
          [](const message<wire::Lease>&) { return message<wire::LeaseGranted>{}; },
          [](const message<wire::Release>&) {},
          [](const message<wire::UnloadModel>&) { return message<wire::ModelUnloaded>{}; },
          [](status_atom) {
            wire::CacheStatusT s;
            s.blocks = 100;
            s.free_blocks = 60;
            return message<wire::CacheStatus>::pack(s);
          }};
}

class Gateway : public ::testing::Test {
 protected:
  Gateway() {
    EXPECT_TRUE(log::configure({.least = log::level::off}));
    config_.add_message_types<caf::id_block::troupe>();
    config_.set("scheduler.policy", caf::atom("sharing"));
    config_.set("scheduler.max-threads", std::size_t{2});
    system_.emplace(config_);
    door_options_.endpoints = {"tcp://127.0.0.1:*"};
    door_options_.beat = 20ms;
    options_.models = std::make_shared<deployment::catalogue>(std::vector<deployment::served_model>{
        {test::demo_prepared(0, "first"), 2}, {test::demo_prepared(1, "second"), 1}});
    options_.server = "troupe test";
    options_.worker_wait = 300ms;
    options_.keep_alive = 50ms;
  }
  ~Gateway() override {
    for (const auto& who : kept_) supervision::stop(who);
    kept_.clear();
    gateway_ = nullptr;
    system_.reset();  // waits for them
  }

  // The whole stage: workers, schedulers, a cache manager.
  void start() {
    open();
    meet_worker(0, 0, "first/0");
    meet_worker(0, 1, "first/1");
    meet_worker(1, 0, "second/0");
    announce("scheduler/0", system_->spawn(run_scheduler, &log_));
    announce("scheduler/1", system_->spawn(run_scheduler, &log_));
    announce("cache_manager", system_->spawn(run_cache_manager));
  }
  // Returns when it has ended, as a supervisor waits for that before it starts the next one.
  void kill(const caf::strong_actor_ptr& who) {
    caf::scoped_actor self{*system_};
    self->monitor(caf::actor_cast<caf::actor>(who));
    supervision::stop(who, caf::exit_reason::kill);
    self->receive([](const caf::down_msg&) {});
  }
  void open() {
    if (!options_.door) {
      auto door = open_zmq_door(door_options_);
      ASSERT_TRUE(door) << door.error().text;
      options_.door = *door;
    }
    gateway_ = spawn_gateway(*system_, options_);
    kept_.push_back(caf::actor_cast<caf::strong_actor_ptr>(gateway_));
  }
  template <class Handle>
  void announce(const std::string& id, const Handle& who) {
    kept_.push_back(caf::actor_cast<caf::strong_actor_ptr>(who));
    caf::anon_send(gateway_, peer_atom::value, id, kept_.back());
  }
  tokenizer_actor meet_worker(int model, int number, const std::string& name) {
    auto w = system_->spawn(run_worker, std::make_shared<fake_worker>(fake_worker{&log_, name}));
    announce("tokenizer/" + std::to_string(model) + "/" + std::to_string(number), w);
    return w;
  }
  raw_client client() { return raw_client(options_.door->endpoints()[0]); }
  std::optional<bool> drain(std::uint64_t ms) {
    caf::scoped_actor self{*system_};
    std::optional<bool> all;
    self->request(gateway_, std::chrono::seconds(10), drain_atom::value, ms)
        .receive([&](bool b) { all = b; }, [](const caf::error&) {});
    return all;
  }

  caf::actor_system_config config_;
  std::optional<caf::actor_system> system_;
  stage_log log_;
  door_options door_options_;
  gateway_options options_;
  gateway_actor gateway_;
  std::vector<caf::strong_actor_ptr> kept_;
};

TEST_F(Gateway, WelcomesAHello) {
  start();
  auto c = client();
  wire::HelloT hello;
  hello.min_version = 1;
  hello.max_version = 4;
  c.ask(1, std::move(hello));
  const auto r = c.next();
  ASSERT_TRUE(r && (*r)->body_as_Welcome());
  EXPECT_EQ((*r)->body_as_Welcome()->server()->str(), "troupe test");
}

TEST_F(Gateway, RoutesToTheModelAskedForAndElseToTheFirst) {
  start();
  auto c = client();
  c.ask(1, generate_ids({answer_at_once}, "second"));
  EXPECT_EQ((*c.next())->body_as_Chunk()->text()->str(), "hello from second/0");
  EXPECT_TRUE((*c.next())->body_as_Final());
  c.ask(2, generate_ids({answer_at_once}));
  EXPECT_THAT((*c.next())->body_as_Chunk()->text()->str(), HasSubstr("hello from first/"));
}

TEST_F(Gateway, OpensANameWhenTheCatalogueDoesAndFindsItsActors) {
  std::map<std::string, caf::strong_actor_ptr> running;
  options_.find_peer = [&running](const std::string& id) { return running[id]; };
  start();
  auto c = client();
  c.ask(1, generate_ids({answer_at_once}, "third"));
  EXPECT_EQ((*c.next())->body_as_Error()->code(), error_code::unknown_model);
  running["tokenizer/2/0"] = caf::actor_cast<caf::strong_actor_ptr>(meet_worker(2, 0, "third/0"));
  options_.models->serve({test::demo_prepared(2, "third"), 1, 1});
  caf::anon_send(gateway_, changed_atom::value);
  c.ask(2, generate_ids({answer_at_once}, "third"));
  EXPECT_EQ((*c.next())->body_as_Chunk()->text()->str(), "hello from third/0");
  EXPECT_TRUE((*c.next())->body_as_Final());
}

TEST_F(Gateway, ClosesANameAndAnswersWhenItIsVacated) {
  start();
  auto c = client();
  c.ask(1, generate_ids({answer_at_once}, "second"));
  EXPECT_TRUE((*c.next())->body_as_Chunk());
  EXPECT_TRUE((*c.next())->body_as_Final());
  options_.models->withdraw({1});
  caf::anon_send(gateway_, changed_atom::value);
  caf::scoped_actor self{*system_};
  std::optional<std::uint32_t> left;
  self->request(gateway_, std::chrono::seconds(10), vacate_atom::value, std::uint32_t{1}, std::uint64_t{0})
      .receive([&](std::uint32_t finished, std::uint32_t ended) { left = finished + ended; },
               [](const caf::error&) {});
  EXPECT_EQ(left, 0u);
  c.ask(2, generate_ids({answer_at_once}, "second"));
  EXPECT_EQ((*c.next())->body_as_Error()->code(), error_code::unknown_model);
}

TEST_F(Gateway, TakesNoOperationsWhereItMustNot) {
  options_.takes_operations = false;
  start();
  auto c = client();
  wire::OperateT operate;
  operate.model = "first";
  operate.verb.Set(wire::UnloadT{});
  c.ask(1, std::move(operate));
  EXPECT_EQ((*c.next())->body_as_Error()->code(), error_code::unsupported);
}

TEST_F(Gateway, UsesAllWorkersOfAModel) {
  start();
  auto c = client();
  std::map<std::string, int> seen;
  for (std::uint64_t id = 1; id <= 8; ++id) {
    c.ask(id, generate_ids({answer_at_once}));
    ++seen[(*c.next())->body_as_Chunk()->text()->str()];
    ASSERT_TRUE((*c.next())->body_as_Final());
  }
  EXPECT_EQ(seen["hello from first/0"], 4);
  EXPECT_EQ(seen["hello from first/1"], 4);
}

TEST_F(Gateway, ListsTheModelsThatAreServedIfAskedForAnother) {
  start();
  auto c = client();
  c.ask(1, generate_ids({answer_at_once}, "third"));
  const auto [code, text] = c.next_error();
  EXPECT_EQ(code, error_code::unknown_model);
  EXPECT_THAT(text, HasSubstr("'third' is not served here; served: first, second"));
}

TEST_F(Gateway, KeepsTwoClientsWithTheSameIdsApart) {
  start();
  auto a = client();
  auto b = client();
  a.ask(1, generate_ids({stay_open}));
  b.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(2));
  wire::CancelT cancel;
  cancel.target = 1;
  b.ask(2, cancel);
  const auto r = b.next();
  ASSERT_TRUE(r && (*r)->body_as_Final());
  EXPECT_EQ((*r)->body_as_Final()->choices()->Get(0)->finish(), wire::FinishReason::cancelled);
  EXPECT_FALSE(a.next(100ms));
}

TEST_F(Gateway, IgnoresACancelOfWhatIsNotOpen) {
  start();
  auto c = client();
  wire::CancelT cancel;
  cancel.target = 55;
  c.ask(1, cancel);
  EXPECT_FALSE(c.next(100ms));
}

TEST_F(Gateway, RefusesAnIdThatIsStillOpen) {
  start();
  auto c = client();
  c.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(1));
  c.ask(1, generate_ids({answer_at_once}));
  const auto r = c.next();
  ASSERT_TRUE(r && (*r)->body_as_Error());
  EXPECT_EQ((*r)->id(), 0U) << "an error with the id would end the open stream";
  EXPECT_EQ((*r)->body_as_Error()->code(), error_code::invalid_request);
  EXPECT_THAT((*r)->body_as_Error()->text()->str(), HasSubstr("id: 1 is that of a request of yours"));
}

TEST_F(Gateway, RefusesMoreChoicesThanARequestMayHaveBeforeAWorkerSeesIt) {
  open();
  auto c = client();
  for (const std::uint32_t n : {0U, 65U, 4294967295U}) {
    auto g = generate_ids({answer_at_once});
    g.n = n;
    c.ask(1, std::move(g));
    const auto [code, text] = c.next_error();
    EXPECT_EQ(code, error_code::invalid_request);
    EXPECT_THAT(text, HasSubstr("is outside 1 to 64"));
  }
}

TEST_F(Gateway, QuotesAStrangersModelNameWithCare) {
  start();
  auto c = client();
  c.ask(1, generate_ids({answer_at_once}, "\xff\n" + std::string(1'000'000, 'x')));
  const auto [code, text] = c.next_error();
  EXPECT_EQ(code, error_code::unknown_model);
  EXPECT_THAT(text, HasSubstr("'\xEF\xBF\xBD\xEF\xBF\xBDxxx"));
  EXPECT_LT(text.size(), 200U);
}

TEST_F(Gateway, IsOverloadedBeyondTheBytesThatMayBeOpen) {
  door_options_.limits.open_bytes = 10'000;
  start();
  auto c = client();
  c.ask(1, generate_ids(std::vector<std::int32_t>(2'000, stay_open)));
  c.ask(2, generate_ids(std::vector<std::int32_t>(2'000, stay_open)));
  const auto [code, text] = c.next_error();
  EXPECT_EQ(code, error_code::overloaded);
  EXPECT_THAT(text, HasSubstr("10000 at once"));
  wire::CancelT cancel;
  cancel.target = 1;
  c.ask(3, cancel);
  ASSERT_TRUE((*c.next())->body_as_Final());
  c.ask(2, generate_ids(std::vector<std::int32_t>(2'000, answer_at_once)));
  EXPECT_TRUE((*c.next())->body_as_Chunk()) << "there is room again";
}

TEST_F(Gateway, IsOverloadedBeyondAClientsShare) {
  door_options_.limits.open_requests_per_client = 2;
  start();
  auto c = client();
  for (std::uint64_t id = 1; id <= 3; ++id) c.ask(id, generate_ids({stay_open}));
  EXPECT_EQ(c.next_error().first, error_code::overloaded);
}

TEST_F(Gateway, AbandonsTheStreamsOfAClientThatIsGone) {
  options_.keep_alive = std::chrono::hours(1);  // it must be noticed without sending
  start();
  {
    auto c = client();
    c.ask(1, generate_ids({stay_open}));
    c.ask(2, generate_ids({stay_open}));
    ASSERT_TRUE(log_.wait_admitted(2));
  }
  ASSERT_TRUE(log_.wait_abandoned(2));
  ASSERT_TRUE(log_.wait_aborted(2)) << "the scheduler is not told only by a worker, which may be busy";
}

TEST_F(Gateway, TellsTheSchedulerOfACancelBesideTheWorkerThatMakesItsFinal) {
  start();
  auto c = client();
  c.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(1));
  wire::CancelT cancel;
  cancel.target = 1;
  c.ask(2, cancel);
  const auto r = c.next();
  ASSERT_TRUE(r && (*r)->body_as_Final());
  EXPECT_TRUE(log_.wait_aborted(1));
}

TEST_F(Gateway, CutsOffAClientThatDoesNotReadWithATypedError) {
  const test::temp_folder folder;
  const auto path = "ipc://" + (folder.path() / "socket").string();
  door_options_.endpoints.push_back(path);
  door_options_.socket_messages = 4;
  door_options_.outbox_messages = 20;
  start();
  raw_client slow(path, 1);
  slow.ask(1, generate_ids({flood}));
  ASSERT_TRUE(log_.wait_abandoned(1));
  EXPECT_EQ(log_.abandoned()[0].second, error_code::cancelled);
  for (;;) {
    const auto r = slow.next();
    ASSERT_TRUE(r) << "no end came";
    if ((*r)->body_as_Chunk()) continue;
    ASSERT_TRUE((*r)->body_as_Error());
    EXPECT_EQ((*r)->body_as_Error()->code(), error_code::overloaded);
    break;
  }
  EXPECT_FALSE(slow.next(100ms)) << "exactly one end";
}

TEST_F(Gateway, TellsASilentStreamThatItIsStillOpen) {
  start();
  auto c = client();
  c.ask(1, generate_ids({stay_open}));
  for (int i = 0; i < 50 && c.alive < 2; ++i) EXPECT_FALSE(c.next(200ms));
  EXPECT_GT(c.alive, 1);
}

TEST_F(Gateway, EndsTheStreamsOfAWorkerThatDies) {
  open();
  const auto worker = meet_worker(0, 0, "first/0");
  announce("scheduler/0", system_->spawn(run_scheduler, &log_));
  auto c = client();
  c.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(1));
  supervision::stop(caf::actor_cast<caf::strong_actor_ptr>(worker));
  const auto [code, text] = c.next_error();
  EXPECT_EQ(code, error_code::unavailable);
  EXPECT_THAT(text, HasSubstr("send the request again"));
  EXPECT_TRUE(log_.wait_aborted(1));
}

TEST_F(Gateway, HoldsARequestUntilAWorkerIsThere) {
  options_.worker_wait = 10'000ms;
  open();
  auto c = client();
  c.ask(1, generate_ids({answer_at_once}));
  EXPECT_FALSE(c.next(100ms));
  meet_worker(0, 1, "late");
  const auto r = c.next();
  ASSERT_TRUE(r && (*r)->body_as_Chunk());
}

TEST_F(Gateway, DoesNotHoldARequestForEver) {
  open();
  auto c = client();
  c.ask(1, generate_ids({answer_at_once}));
  EXPECT_EQ(c.next_error().first, error_code::unavailable);
}

TEST_F(Gateway, KeepsTheDeadlineOfARequestThatWaitsForAWorker) {
  options_.worker_wait = 10'000ms;
  open();
  auto c = client();
  auto g = generate_ids({answer_at_once});
  g.deadline_ms = 50;
  c.ask(1, std::move(g));
  EXPECT_EQ(c.next_error().first, error_code::deadline_exceeded);
}

TEST_F(Gateway, CancelsARequestThatNoWorkerHasSeen) {
  options_.worker_wait = 10'000ms;
  open();
  auto c = client();
  auto g = generate_ids({answer_at_once});
  g.n = 3;
  c.ask(1, std::move(g));
  wire::CancelT cancel;
  cancel.target = 1;
  c.ask(2, cancel);
  const auto r = c.next();
  ASSERT_TRUE(r && (*r)->body_as_Final());
  EXPECT_EQ((*r)->body_as_Final()->choices()->size(), 3U);
}

TEST_F(Gateway, EndsWhatWasOpenBeforeItsRestartAndHasItDropped) {
  start();
  auto c = client();
  c.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(1));
  const auto stream = log_.admitted()[0];
  const auto worker = kept_[1 + stream % 2];  // the workers were met first
  kill(kept_[0]);
  open();
  EXPECT_EQ(c.next_error().first, error_code::unavailable);
  caf::anon_send(gateway_, peer_atom::value, "tokenizer/0/" + std::to_string(stream % 2), worker);
  ASSERT_TRUE(log_.wait_abandoned(1));
  EXPECT_EQ(log_.abandoned()[0].first, stream);
  c.ask(1, generate_ids({answer_at_once}));
  const auto r = c.next();
  ASSERT_TRUE(r && (*r)->body_as_Chunk()) << "the new gateway serves, and the old id is free again";
}

TEST_F(Gateway, DrainsAtOnceIfNothingIsOpen) {
  start();
  EXPECT_EQ(drain(5'000), true);
}

TEST_F(Gateway, LetsOpenStreamsFinishWhileItDrainsAndRefusesNewOnes) {
  start();
  auto c = client();
  c.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(1));
  std::optional<bool> drained;
  std::thread stopping([&] { drained = drain(10'000); });
  for (std::uint64_t id = 100;; ++id) {  // until the drain has begun
    c.ask(id, generate_ids({answer_at_once}));
    const auto r = c.next();
    ASSERT_TRUE(r);
    if (const auto* e = (*r)->body_as_Error()) {
      EXPECT_EQ(e->code(), error_code::shutting_down);
      break;
    }
    c.next();
  }
  wire::CancelT cancel;
  cancel.target = 1;
  c.ask(2, cancel);
  EXPECT_TRUE((*c.next())->body_as_Final());
  stopping.join();
  EXPECT_EQ(drained, true);
}

TEST_F(Gateway, EndsWhatIsLeftAtTheDeadlineOfADrain) {
  start();
  auto c = client();
  c.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(1));
  EXPECT_EQ(drain(50), false);
  EXPECT_EQ(c.next_error().first, error_code::shutting_down);
  EXPECT_TRUE(log_.wait_abandoned(1));
}

TEST_F(Gateway, EndsEverythingWhenItIsStoppedWithoutADrain) {
  start();
  auto c = client();
  c.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(1));
  supervision::stop(kept_[0]);
  EXPECT_EQ(c.next_error().first, error_code::shutting_down);
}

TEST_F(Gateway, AnswersADrainThatIsCutShort) {
  start();
  auto c = client();
  c.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(1));
  std::optional<bool> drained;
  std::thread stopping([&] { drained = drain(600'000); });
  std::this_thread::sleep_for(100ms);
  supervision::stop(kept_[0]);
  stopping.join();
  EXPECT_EQ(drained, false);
  EXPECT_EQ(c.next_error().first, error_code::shutting_down);
}

TEST_F(Gateway, ReportsItsStatus) {
  options_.restarts = [] {
    return std::vector<restart_count>{{"executor", 2, "it broke"}, {"scheduler/0", 0, ""}};
  };
  start();
  auto c = client();
  c.send(std::vector<std::string>{"garbage that is no message"});
  c.next_error();
  c.ask(1, generate_ids({stay_open}));
  ASSERT_TRUE(log_.wait_admitted(1));
  c.ask(2, wire::ServerStatusT());
  const auto r = c.next();
  ASSERT_TRUE(r && (*r)->body_as_Status());
  const auto* s = (*r)->body_as_Status();
  EXPECT_EQ(s->version()->str(), "troupe test");
  EXPECT_EQ(s->clients(), 1U);
  EXPECT_EQ(s->open_requests(), 1U);
  EXPECT_EQ(s->bad_frames(), 1U);
  EXPECT_EQ(s->cache()->free_blocks(), 60U);
  ASSERT_EQ(s->models()->size(), 2U);
  EXPECT_EQ(s->models()->Get(0)->state()->str(), "ready");
  EXPECT_EQ(s->models()->Get(0)->running(), 5U);
  ASSERT_EQ(s->restarts()->size(), 1U);
  EXPECT_EQ(s->restarts()->Get(0)->actor()->str(), "executor");
}

TEST_F(Gateway, ListsModelsThatAreStillLoading) {
  open();
  auto c = client();
  c.ask(1, wire::ListModelsT());
  const auto r = c.next();
  ASSERT_TRUE(r && (*r)->body_as_ModelList());
  const auto* m = (*r)->body_as_ModelList()->models()->Get(1);
  EXPECT_EQ(m->name()->str(), "second");
  EXPECT_EQ(m->state()->str(), "loading");
  EXPECT_EQ(m->context_tokens(), 128U);
}

TEST_F(Gateway, AnswersAllThatAskWhileItAsks) {
  start();
  auto a = client();
  auto b = client();
  for (std::uint64_t id = 1; id <= 20; ++id) {
    a.ask(id, wire::ServerStatusT());
    b.ask(id, wire::ListModelsT());
  }
  for (std::uint64_t id = 1; id <= 20; ++id) {
    const auto status = a.next();
    ASSERT_TRUE(status && (*status)->body_as_Status());
    EXPECT_EQ((*status)->id(), id);
    EXPECT_EQ((*status)->body_as_Status()->models()->Get(0)->running(), 5U);
    const auto list = b.next();
    ASSERT_TRUE(list && (*list)->body_as_ModelList());
    EXPECT_EQ((*list)->id(), id);
  }
}

TEST_F(Gateway, IsOverloadedBeyondTheQuestionsThatAClientMayHaveOpen) {
  options_.inquiries_per_client = 2;
  options_.status_wait = 300ms;
  open();
  announce("scheduler/0", system_->spawn(run_silent_scheduler));
  auto c = client();
  for (std::uint64_t id = 1; id <= 3; ++id) c.ask(id, wire::ListModelsT());
  const auto refused = c.next();
  ASSERT_TRUE(refused && (*refused)->body_as_Error());
  EXPECT_EQ((*refused)->id(), 3U);
  EXPECT_EQ((*refused)->body_as_Error()->code(), error_code::overloaded);
  auto other = client();
  other.ask(1, wire::ListModelsT());
  for (int i = 0; i < 2; ++i) EXPECT_TRUE((*c.next())->body_as_ModelList());
  EXPECT_TRUE((*other.next())->body_as_ModelList()) << "another client has questions of its own";
  c.ask(4, wire::ListModelsT());
  EXPECT_TRUE((*c.next())->body_as_ModelList()) << "there is room again";
}

TEST_F(Gateway, ServesOthersWhileAClientAsksWithoutEnd) {
  start();
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> answers{0};
  std::thread flooding([&] {
    raw_client rude(options_.door->endpoints()[0], 0);
    for (std::uint64_t id = 0; !over;) {
      for (int i = 0; i < 64; ++i) {
        ++id;
        id % 2 == 0 ? rude.ask(id, wire::ListModelsT()) : rude.ask(id, wire::ServerStatusT());
      }
      while (!over && rude.next(0ms)) ++answers;
    }
  });
  auto c = client();
  std::chrono::steady_clock::duration longest{};
  const auto end = std::chrono::steady_clock::now() + 2s;
  for (std::uint64_t id = 1; std::chrono::steady_clock::now() < end; ++id) {
    const auto begin = std::chrono::steady_clock::now();
    c.ask(id, generate_ids({answer_at_once}));
    const bool chunk = c.next(10s).has_value();
    const bool final = chunk && c.next(10s).has_value();
    longest = std::max(longest, std::chrono::steady_clock::now() - begin);
    if (!final) break;
  }
  over = true;
  flooding.join();
  EXPECT_LT(longest, 1s);
  EXPECT_GT(answers.load(), 0U);
}

TEST_F(Gateway, SurvivesAThousandMutationsOfAValidRequest) {
  start();
  auto c = client();
  const auto valid = request_bytes(3, generate_ids({answer_at_once, 2, 3}, "second"));
  std::mt19937 random(99);
  for (int i = 0; i < 1000; ++i) {
    auto frame = valid;
    for (auto changes = 1 + random() % 3; changes > 0; --changes)
      frame[random() % frame.size()] = static_cast<std::uint8_t>(random());
    c.send(frame);
  }
  auto other = client();
  other.ask(1, generate_ids({answer_at_once}));
  const auto r = other.next();
  ASSERT_TRUE(r && (*r)->body_as_Chunk());
}

}  // namespace
}  // namespace troupe::gateway::testing
