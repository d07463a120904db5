// A worker between a gateway and schedulers that write down what they hear. Deterministic scheduler.
#include "actors/tokenizer/tokenizer_actor.hpp"

#include <gmock/gmock.h>

#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <map>
#include <optional>

#include "kernel/supervision/supervisor.hpp"
#include "kernel/telemetry/log.hpp"
#include "tests/actors/tokenizer/deltas.hpp"
#include "tests/actors/tokenizer/requests.hpp"
#include "tests/support/demo_model.hpp"

namespace troupe::text::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct heard_by_scheduler {
  std::vector<message<wire::Submit>> submits;
  std::vector<std::pair<std::uint64_t, int>> aborts;
};

scheduler_actor::behavior_type run_scheduler(scheduler_actor::pointer, heard_by_scheduler* heard) {
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [](const message<wire::ModelLoaded>&) {},
          [heard](const message<wire::Submit>& s) { heard->submits.push_back(s); },
          [heard](const message<wire::Abort>& a) { heard->aborts.emplace_back(a->stream(), a->choice()); },
          [](const message<wire::StepResult>&) {},
          [](tick_atom) {},
          [](const message<wire::SwitchVersion>&) { return message<wire::Switched>{}; },
          [](watch_atom) { return message<wire::WatchReport>{}; },
          [](status_atom) { return message<wire::SchedulerStatus>{}; }};
}

gateway_actor::behavior_type run_gateway(gateway_actor::pointer, outgoing_batch* heard) {
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [](arrive_atom, const std::string&, const message<wire::ClientRequest>&) {},
          [heard](const outgoing_batch& batch) { heard->insert(heard->end(), batch.begin(), batch.end()); },
          [](tick_atom) {},
          [](changed_atom) {},
          [](vacate_atom, std::uint32_t, std::uint64_t) { return std::make_tuple(0U, 0U); },
          [](drain_atom, std::uint64_t) { return true; }};
}

class Worker : public ::testing::Test {
 protected:
  Worker() {
    EXPECT_TRUE(log::configure({.least = log::level::off}));
    config_.add_message_types<caf::id_block::troupe>();
    config_.set("scheduler.policy", caf::atom("testing"));
    system_.emplace(config_);
    tokenizer_options options;
    options.model = test::demo_prepared(3);
    options.draw_seed = [] { return 42; };
    options.now_ns = [] { return std::uint64_t{5'000'000}; };
    options.detached = false;
    worker_ = keep(spawn_tokenizer(*system_, std::move(options)));
    gateway_ = keep(system_->spawn(run_gateway, &out_));
    scheduler_ = meet_scheduler(first_);
  }
  ~Worker() override {
    for (const auto& who : kept_) supervision::stop(who);
    run();
  }

  template <class Handle>
  Handle keep(Handle h) {
    kept_.push_back(caf::actor_cast<caf::strong_actor_ptr>(h));
    return h;
  }
  void run() { dynamic_cast<caf::scheduler::test_coordinator&>(system_->scheduler()).run(); }
  scheduler_actor meet_scheduler(heard_by_scheduler& heard, const std::string& id = "scheduler/3") {
    auto s = keep(system_->spawn(run_scheduler, &heard));
    caf::anon_send(worker_, peer_atom::value, id, caf::actor_cast<caf::strong_actor_ptr>(s));
    run();
    return s;
  }
  template <class Body>
  void admit(std::uint64_t stream, Body body, std::uint64_t request = 11) {
    wire::ClientRequestT r;
    r.version = protocol_version;
    r.id = request;
    r.body.Set(std::move(body));
    caf::send_as(caf::actor_cast<caf::actor>(gateway_), worker_, admit_atom::value, stream,
                 message<wire::ClientRequest>::pack(r), std::uint64_t{1'000'000});
    run();
  }
  void tell(const scheduler_actor& from, const std::vector<delta>& deltas) {
    caf::send_as(caf::actor_cast<caf::actor>(from), worker_, batch_of(deltas));
    run();
  }
  void abandon(std::uint64_t stream, error_code why) {
    caf::anon_send(worker_, abandon_atom::value, stream, static_cast<std::uint16_t>(why));
    run();
  }
  std::vector<int> generated(const message<wire::Submit>& s) {
    return s->generated() ? std::vector<int>(s->generated()->begin(), s->generated()->end())
                          : std::vector<int>{};
  }

  caf::actor_system_config config_;
  std::optional<caf::actor_system> system_;
  std::vector<caf::strong_actor_ptr> kept_;
  tokenizer_actor worker_;
  gateway_actor gateway_;
  heard_by_scheduler first_, second_;
  scheduler_actor scheduler_;
  outgoing_batch out_;
};

TEST_F(Worker, SubmitsOneSequencePerChoice) {
  auto g = text_request("hello");
  g.n = 3;
  admit(1, std::move(g));
  ASSERT_THAT(first_.submits, SizeIs(3));
  EXPECT_EQ(first_.submits[2]->choice(), 2U);
  EXPECT_EQ(first_.submits[2]->sampling()->seed(), 44U);
  EXPECT_EQ(first_.submits[0]->received_ns(), 1'000'000U);
}

TEST_F(Worker, AnswersABadRequestWithOneLastError) {
  auto g = text_request("hello");
  g.n = 0;
  admit(1, std::move(g));
  ASSERT_THAT(out_, SizeIs(1));
  EXPECT_TRUE(out_[0].last);
  EXPECT_EQ(out_[0].reply->id(), 11U);
  EXPECT_EQ(out_[0].reply->body_as_Error()->code(), error_code::invalid_request);
  EXPECT_THAT(first_.submits, IsEmpty());
}

TEST_F(Worker, DoesNotBeginWithARequestWhoseDeadlineHasPassed) {  // received at 1 ms, and it is 5 ms now
  auto late = text_request("hello");
  late.deadline_ms = 4;
  admit(1, std::move(late));
  ASSERT_THAT(out_, SizeIs(1));
  EXPECT_TRUE(out_[0].last);
  ASSERT_TRUE(out_[0].reply->body_as_Error());
  EXPECT_EQ(out_[0].reply->body_as_Error()->code(), error_code::deadline_exceeded);
  EXPECT_THAT(first_.submits, IsEmpty());
  auto in_time = text_request("hello");
  in_time.deadline_ms = 5;
  admit(2, std::move(in_time));
  ASSERT_THAT(first_.submits, SizeIs(1));
  EXPECT_EQ(first_.submits[0]->deadline_ns(), 6'000'000U);
}

TEST_F(Worker, PutsWhatAStepBroughtIntoOneBatchAndMarksTheLastReply) {
  admit(1, id_request({1, 5}), 11);
  admit(2, id_request({1, 6}), 12);
  tell(scheduler_, {{.stream = 1, .tokens = {300}},
                    {.stream = 2, .tokens = {301}, .finish = wire::FinishReason::length}});
  ASSERT_THAT(out_, SizeIs(3));
  EXPECT_EQ(out_[0].stream, 1U);
  EXPECT_FALSE(out_[0].last);
  EXPECT_FALSE(out_[1].last);
  EXPECT_TRUE(out_[2].last);
  EXPECT_EQ(out_[2].reply->id(), 12U);
  EXPECT_TRUE(out_[2].reply->body_as_Final());
}

TEST_F(Worker, HasTheSchedulerDropAChoiceAtAStopString) {
  auto g = id_request({1, 5});
  stop(g).strings = {"end"};
  admit(1, std::move(g));
  tell(scheduler_, {{.stream = 1, .tokens = demo_tokenizer()->encode("the end of it", false)}});
  EXPECT_THAT(first_.aborts, ElementsAre(std::pair{std::uint64_t{1}, 0}));
  EXPECT_TRUE(out_.back().last);
}

TEST_F(Worker, CancelsWithAFinalAndHasTheSchedulerDropTheStream) {
  admit(1, id_request({1, 5}));
  abandon(1, error_code::cancelled);
  EXPECT_THAT(first_.aborts, ElementsAre(std::pair{std::uint64_t{1}, -1}));
  ASSERT_THAT(out_, SizeIs(1));
  EXPECT_EQ(out_[0].reply->body_as_Final()->choices()->Get(0)->finish(), wire::FinishReason::cancelled);
}

TEST_F(Worker, EndsAnAbandonedStreamWithTheGivenError) {
  admit(1, id_request({1, 5}));
  abandon(1, error_code::shutting_down);
  ASSERT_THAT(out_, SizeIs(1));
  EXPECT_TRUE(out_[0].last);
  EXPECT_EQ(out_[0].reply->body_as_Error()->code(), error_code::shutting_down);
  EXPECT_THAT(out_[0].reply->body_as_Error()->text()->str(), HasSubstr("send the request again"));
}

TEST_F(Worker, PassesAnUnknownAbandonedStreamOnToTheScheduler) {
  abandon(77, error_code::cancelled);
  EXPECT_THAT(first_.aborts, ElementsAre(std::pair{std::uint64_t{77}, -1}));
  EXPECT_THAT(out_, IsEmpty());
}

TEST_F(Worker, SubmitsLiveStreamsAgainToANewSchedulerWithTheirTokens) {
  admit(1, id_request({1, 5}));
  admit(2, id_request({1, 6}));
  tell(scheduler_, {{.stream = 1, .tokens = {300, 301}},
                    {.stream = 2, .tokens = {7}, .finish = wire::FinishReason::length}});
  meet_scheduler(second_);
  ASSERT_THAT(second_.submits, SizeIs(1));
  EXPECT_EQ(second_.submits[0]->stream(), 1U);
  EXPECT_THAT(generated(second_.submits[0]), ElementsAre(300, 301));
  EXPECT_EQ(second_.submits[0]->sampling()->seed(), 42U);
}

TEST_F(Worker, IgnoresTokensOfASchedulerThatWasReplaced) {
  admit(1, id_request({1, 5}));
  tell(scheduler_, {{.stream = 1, .tokens = {300}}});
  const auto second = meet_scheduler(second_);
  out_.clear();
  tell(scheduler_, {{.stream = 1, .tokens = {301}}});
  EXPECT_THAT(out_, IsEmpty());
  tell(second, {{.stream = 1, .tokens = {301}}});
  EXPECT_THAT(out_, SizeIs(1));
}

TEST_F(Worker, DoesNotSubmitTwiceIfTheSameSchedulerIsAnnouncedAgain) {
  admit(1, id_request({1, 5}));
  caf::anon_send(worker_, peer_atom::value, "scheduler/3",
                 caf::actor_cast<caf::strong_actor_ptr>(scheduler_));
  run();
  EXPECT_THAT(first_.submits, SizeIs(1));
}

TEST_F(Worker, HasNothingToDoWithAnotherModelsScheduler) {
  admit(1, id_request({1, 5}));
  meet_scheduler(second_, "scheduler/33");
  EXPECT_THAT(second_.submits, IsEmpty());
}

TEST_F(Worker, AnswersTokenizeAndDetokenizeItself) {
  wire::TokenizeT t;
  t.prompt = text_request("hello there").prompt;
  admit(1, std::move(t));
  wire::DetokenizeT d;
  d.ids = demo_tokenizer()->encode("hello there", false);
  admit(2, std::move(d));
  ASSERT_THAT(out_, SizeIs(2));
  EXPECT_TRUE(out_[0].last && out_[1].last);
  EXPECT_EQ(out_[0].reply->body_as_TokenIds()->ids()->size(),
            demo_tokenizer()->encode("hello there", true).size());
  EXPECT_EQ(out_[1].reply->body_as_DecodedText()->text()->str(), "hello there");
}

// An operator has replaced the instance: its streams go on with another one's scheduler.
TEST_F(Worker, SubmitsItsStreamsToTheSchedulerThatItIsRedirectedTo) {
  admit(1, text_request("hello"));
  tell(scheduler_, {{.stream = 1, .tokens = {5, 6}}});
  auto other = meet_scheduler(second_, "scheduler/8");
  EXPECT_THAT(second_.submits, IsEmpty());
  caf::anon_send(worker_, redirect_atom::value, std::uint32_t{8},
                 caf::actor_cast<caf::strong_actor_ptr>(other));
  run();
  ASSERT_THAT(first_.aborts, SizeIs(1));
  EXPECT_EQ(first_.aborts[0].first, 1U);
  ASSERT_THAT(second_.submits, SizeIs(1));
  EXPECT_THAT(generated(second_.submits[0]), ElementsAre(5, 6));
  const auto before = out_.size();
  tell(scheduler_, {{.stream = 1, .tokens = {7}}});
  EXPECT_EQ(out_.size(), before) << "the one before has nothing to say any more";
}

}  // namespace
}  // namespace troupe::text::testing
