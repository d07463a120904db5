// The host between an executor, a cache-manager and a scheduler that are told what to say. Deterministic scheduler, virtual time.
#include "actors/host/host.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/response_promise.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <optional>
#include <string>
#include <vector>

#include "actors/errors.hpp"
#include "kernel/supervision/supervisor.hpp"
#include "kernel/telemetry/log.hpp"
#include "tests/support/tiny_program.hpp"

namespace {

using namespace troupe;
using namespace std::chrono_literals;

message<wire::ModelLoaded> loaded(std::uint32_t model) {
  wire::ModelLoadedT answer;
  answer.model = model;
  answer.block_tokens = 16;
  return message<wire::ModelLoaded>::pack(answer);
}

// Refuses `refusals` times, then answers. Holds the answer back while `slow`.
struct fake_executor {
  int refusals = 0;
  bool slow = false;
  std::vector<message<wire::LoadModel>> heard = {};
  std::optional<caf::typed_response_promise<message<wire::ModelLoaded>>> held = {};
};

executor_actor::behavior_type run_executor(executor_actor::pointer self, fake_executor* f) {
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [self, f](const message<wire::LoadModel>& request) -> caf::result<message<wire::ModelLoaded>> {
            f->heard.push_back(request);
            if (f->slow) {
              f->held = self->make_response_promise<message<wire::ModelLoaded>>();
              return *f->held;
            }
            if (f->refusals-- > 0)
              return to_caf({error_code::bad_checkpoint, "model.safetensors: truncated"});
            return loaded(request->model());
          },
          [](const message<wire::UnloadModel>&) { return message<wire::ModelUnloaded>{}; },
          [f](const message<wire::StepPlan>&) { f->held->deliver(loaded(3)); },  // the held answer, now
          [](tick_atom) {}};
}

cache_manager_actor::behavior_type run_cache_manager(cache_manager_actor::pointer, int* told) {
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [told](const message<wire::ModelLoaded>&) { ++*told; },
          [](const message<wire::Lease>&) { return message<wire::LeaseGranted>{}; },
          [](const message<wire::Release>&) {},
          [](const message<wire::UnloadModel>&) { return message<wire::ModelUnloaded>{}; },
          [](status_atom) { return message<wire::CacheStatus>{}; }};
}

scheduler_actor::behavior_type run_scheduler(scheduler_actor::pointer, int* told) {
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [told](const message<wire::ModelLoaded>&) { ++*told; },
          [](const message<wire::Submit>&) {},
          [](const message<wire::Abort>&) {},
          [](const message<wire::StepResult>&) {},
          [](tick_atom) {},
          [](const message<wire::SwitchVersion>&) { return message<wire::Switched>{}; },
          [](watch_atom) { return message<wire::WatchReport>{}; },
          [](status_atom) { return message<wire::SchedulerStatus>{}; }};
}

class Host : public testing::Test {
 protected:
  Host() {
    EXPECT_TRUE(log::configure({.least = log::level::off}));
    config_.add_message_types<caf::id_block::troupe>();
    config_.set("scheduler.policy", caf::atom("testing"));
    system_.emplace(config_);
    auto program = program::verify(test::tiny_program::bytes(test::tiny_program::make()));
    EXPECT_TRUE(program) << program.error().text;
    host_options options;
    options.model =
        std::make_shared<const prepared_model>(prepared_model{.id = {3},
                                                              .name = "tiny",
                                                              .checkpoint = {.folder = "/models/tiny"},
                                                              .module = {},
                                                              .program = *program});
    options.on_load = [this](const result<message<wire::ModelLoaded>>& outcome) {
      outcomes_.push_back(outcome ? "loaded" : outcome.error().text);
    };
    host_ = spawn_host(*system_, std::move(options));
    run();
  }
  ~Host() override {
    spawned_.push_back(caf::actor_cast<caf::strong_actor_ptr>(host_));
    for (const auto& who : spawned_) supervision::stop(who);
    run();
    host_ = nullptr;
    spawned_.clear();
  }

  auto& scheduler() { return dynamic_cast<caf::scheduler::test_coordinator&>(system_->scheduler()); }
  void run() { scheduler().run(); }
  void advance(std::chrono::milliseconds by) {
    scheduler().advance_time(by);
    run();
  }
  template <class Handle>
  Handle announce(const std::string& id, Handle who) {
    spawned_.push_back(caf::actor_cast<caf::strong_actor_ptr>(who));
    caf::anon_send(host_, peer_atom::value, id, spawned_.back());
    run();
    return who;
  }
  void meet_executor(fake_executor& f) { announce("executor", system_->spawn(run_executor, &f)); }
  void meet_cache_manager(int& told) { announce("cache_manager", system_->spawn(run_cache_manager, &told)); }
  void meet_scheduler(int& told, const std::string& id = "scheduler/3") {
    announce(id, system_->spawn(run_scheduler, &told));
  }

  caf::actor_system_config config_;
  std::optional<caf::actor_system> system_;
  host_actor host_;
  std::vector<caf::strong_actor_ptr> spawned_;
  std::vector<std::string> outcomes_;
};

TEST_F(Host, LoadsItsModelAsSoonAsItMeetsAnExecutor) {
  fake_executor executor;
  meet_executor(executor);
  ASSERT_EQ(executor.heard.size(), 1u);
  const auto& request = *executor.heard[0];
  EXPECT_EQ(request.model(), 3u);
  EXPECT_EQ(request.name()->str(), "tiny");
  EXPECT_EQ(request.checkpoint()->str(), "/models/tiny");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(request.program()->data()) % 16, 0u);
  EXPECT_TRUE(program::verify({request.program()->data(), request.program()->size()}));
  EXPECT_THAT(outcomes_, testing::ElementsAre("loaded"));
}

TEST_F(Host, TellsThoseItKnowsAndThoseItMeetsLater) {
  int cache_manager = 0, model_scheduler = 0, late = 0;
  meet_cache_manager(cache_manager);
  meet_scheduler(model_scheduler);
  EXPECT_EQ(cache_manager + model_scheduler, 0);
  fake_executor executor;
  meet_executor(executor);
  EXPECT_EQ(cache_manager, 1);
  EXPECT_EQ(model_scheduler, 1);
  meet_scheduler(late);
  EXPECT_EQ(late, 1);
}

TEST_F(Host, LeavesOtherModelsSchedulersAlone) {
  int other = 0;
  fake_executor executor;
  meet_executor(executor);
  meet_scheduler(other, "scheduler/30");
  meet_scheduler(other, "scheduler/0");
  EXPECT_EQ(other, 0);
}

TEST_F(Host, TriesARefusedLoadAgainEverMoreSlowly) {
  fake_executor executor{.refusals = 3};
  int told = 0;
  meet_scheduler(told);
  meet_executor(executor);
  EXPECT_THAT(outcomes_, testing::ElementsAre("model tiny: model.safetensors: truncated"));
  advance(1s);
  EXPECT_EQ(executor.heard.size(), 2u);
  advance(1s);
  EXPECT_EQ(executor.heard.size(), 2u);
  advance(1s);
  EXPECT_EQ(executor.heard.size(), 3u);
  EXPECT_EQ(told, 0);
  advance(4s);
  EXPECT_EQ(outcomes_.back(), "loaded");
  EXPECT_EQ(told, 1);
  advance(1h);
  EXPECT_EQ(executor.heard.size(), 4u);
}

TEST_F(Host, LoadsAgainIntoANewExecutor) {
  fake_executor first, second;
  int told = 0;
  meet_scheduler(told);
  meet_executor(first);
  meet_executor(second);
  EXPECT_EQ(second.heard.size(), 1u);
  EXPECT_EQ(told, 2);
}

TEST_F(Host, WaitsForTheNextExecutorIfOneDiesWhileLoading) {
  fake_executor dying{.slow = true}, next;
  meet_executor(dying);
  supervision::stop(spawned_.back());
  dying.held.reset();
  run();
  EXPECT_TRUE(outcomes_.empty());
  advance(1min);
  EXPECT_EQ(dying.heard.size(), 1u);
  meet_executor(next);
  EXPECT_THAT(outcomes_, testing::ElementsAre("loaded"));
}

TEST_F(Host, IgnoresTheLateAnswerOfAnExecutorThatWasReplaced) {
  fake_executor slow{.slow = true}, next;
  int told = 0;
  meet_executor(slow);
  const auto replaced = caf::actor_cast<executor_actor>(spawned_.back());
  meet_executor(next);
  meet_scheduler(told);
  EXPECT_EQ(told, 1);
  caf::anon_send(replaced, message<wire::StepPlan>{});
  run();
  EXPECT_EQ(told, 1);
  EXPECT_THAT(outcomes_, testing::ElementsAre("loaded"));
}

}  // namespace
