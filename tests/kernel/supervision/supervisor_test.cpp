// All under the deterministic scheduler: nothing runs until run(), time moves only by advance_time().
#include "kernel/supervision/supervisor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/system_messages.hpp>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernel/telemetry/log.hpp"

namespace {

using namespace troupe;
using namespace troupe::supervision;
using namespace std::chrono_literals;
using testing::ElementsAre;

using end_atom = caf::atom_constant<caf::atom("end")>;      // ends normally
using crash_atom = caf::atom_constant<caf::atom("crash")>;  // ends by an exception

// Notes its start and its end.
caf::behavior worker(caf::event_based_actor* self, std::string id, std::vector<std::string>* events) {
  events->push_back("start " + id);
  self->attach_functor([=](const caf::error&) { events->push_back("end " + id); });
  self->set_exception_handler(
      [](std::exception_ptr&) -> caf::error { return caf::exit_reason::unhandled_exception; });
  return {
      [self](end_atom) { self->quit(); },
      [](crash_atom) { throw std::runtime_error("as told"); },
  };
}

// Never ends, whatever it is told.
caf::behavior stubborn(caf::event_based_actor* self) {
  self->set_exit_handler([](caf::exit_msg&) {});
  return {[self](end_atom) { self->quit(); }};
}

class Supervisor : public testing::Test {
 protected:
  Supervisor() {
    EXPECT_TRUE(log::configure({.least = log::level::off}));
    config_.set("scheduler.policy", caf::atom("testing"));
    system_.emplace(config_);
  }
  ~Supervisor() override {
    if (root_) stop(caf::actor_cast<caf::strong_actor_ptr>(root_));
    run();
    advance(1h);
    root_ = nullptr;
  }

  auto& scheduler() { return dynamic_cast<caf::scheduler::test_coordinator&>(system_->scheduler()); }
  void run() { scheduler().run(); }
  void advance(std::chrono::milliseconds by) {
    scheduler().advance_time(by);
    run();
  }

  child_spec spec(const std::string& id, restart_rule rule = restart_rule::always) {
    return {.id = id,
            .spawn =
                [this, id](caf::actor_system& system) {
                  return caf::actor_cast<caf::strong_actor_ptr>(system.spawn(worker, id, &events_));
                },
            .restart = rule,
            .at_most = 3,
            .within = 10s};
  }

  void start(std::vector<child_spec> children) {
    supervisor_options options;
    options.children = std::move(children);
    options.seen = seen_;
    options.gave_up = [this](const std::string& why) { gave_up_.push_back(why); };
    options.announce = [this](const caf::strong_actor_ptr& to, const std::string& id,
                              const caf::strong_actor_ptr& who) {
      announced_.push_back({to->id(), id, who->id()});
    };
    root_ = spawn_supervisor(*system_, std::move(options));
    root_->attach_functor([this](const caf::error& reason) { end_reason_ = reason; });
    run();
  }

  template <class Atom>
  void tell(const std::string& id, Atom what) {
    caf::anon_send(caf::actor_cast<caf::actor>(seen_->find(id)), what);
    run();
  }
  void crash(const std::string& id) { tell(id, crash_atom::value); }

  struct announcement {
    caf::actor_id to;
    std::string id;
    caf::actor_id who;
    bool operator==(const announcement&) const = default;
  };

  caf::actor_system_config config_;
  std::optional<caf::actor_system> system_;
  std::shared_ptr<roster> seen_ = std::make_shared<roster>();
  std::vector<std::string> events_, gave_up_;
  std::vector<announcement> announced_;
  caf::actor root_;
  std::optional<caf::error> end_reason_;
};

TEST_F(Supervisor, StartsDownTheListAndStopsUpIt) {
  start({spec("a"), spec("b"), spec("c")});
  EXPECT_THAT(events_, ElementsAre("start a", "start b", "start c"));
  stop(caf::actor_cast<caf::strong_actor_ptr>(root_));
  run();
  EXPECT_THAT(events_, ElementsAre("start a", "start b", "start c", "end c", "end b", "end a"));
  ASSERT_TRUE(end_reason_);
  EXPECT_EQ(*end_reason_, caf::exit_reason::user_shutdown);
}

TEST_F(Supervisor, IntroducesEveryChildToEveryOther) {
  start({spec("a"), spec("b")});
  const auto a = seen_->find("a")->id(), b = seen_->find("b")->id();
  EXPECT_THAT(announced_, testing::UnorderedElementsAre(announcement{a, "b", b}, announcement{b, "a", a}));
}

TEST_F(Supervisor, RestartsAChildThatDiesAndAnnouncesItAnew) {
  start({spec("a"), spec("b"), spec("c")});
  const auto before = seen_->find("b")->id();
  announced_.clear();
  crash("b");
  const auto after = seen_->find("b")->id();
  EXPECT_NE(before, after);
  const auto a = seen_->find("a")->id(), c = seen_->find("c")->id();
  EXPECT_THAT(announced_,
              testing::UnorderedElementsAre(announcement{a, "b", after}, announcement{c, "b", after},
                                            announcement{after, "a", a}, announcement{after, "c", c}));
  EXPECT_THAT(events_, ElementsAre("start a", "start b", "start c", "end b", "start b"));
}

TEST_F(Supervisor, CountsRestartsWithTheirReason) {
  start({spec("a"), spec("b")});
  crash("b");
  crash("b");
  const auto entries = seen_->entries();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].restarts, 0u);
  EXPECT_EQ(entries[1].id, "b");
  EXPECT_EQ(entries[1].restarts, 2u);
  EXPECT_NE(entries[1].last_reason.find("unhandled"), std::string::npos) << entries[1].last_reason;
}

TEST_F(Supervisor, RestartsByTheRuleOfTheChild) {
  start({spec("always"), spec("on_failure", restart_rule::on_failure), spec("never", restart_rule::never)});
  tell("always", end_atom::value);
  tell("on_failure", end_atom::value);
  crash("never");
  EXPECT_NE(seen_->find("always"), nullptr);
  EXPECT_EQ(seen_->find("on_failure"), nullptr);
  EXPECT_EQ(seen_->find("never"), nullptr);
  EXPECT_TRUE(gave_up_.empty());
}

TEST_F(Supervisor, RestartsAfterAFailureIfTheRuleSaysSo) {
  start({spec("a", restart_rule::on_failure)});
  crash("a");
  EXPECT_NE(seen_->find("a"), nullptr);
}

TEST_F(Supervisor, GivesUpWhenAChildCrashesTooOften) {
  start({spec("a"), spec("b")});
  for (int i = 0; i < 3; ++i) crash("a");
  EXPECT_TRUE(gave_up_.empty());
  crash("a");
  ASSERT_EQ(gave_up_.size(), 1u);
  EXPECT_NE(gave_up_[0].find("a ended more than 3 times within 10 s"), std::string::npos) << gave_up_[0];
  ASSERT_TRUE(end_reason_);
  EXPECT_NE(*end_reason_, caf::exit_reason::user_shutdown);
  EXPECT_EQ(events_.back(), "end b");
}

TEST_F(Supervisor, ForgivesCrashesThatLieFarApart) {
  start({spec("a")});
  for (int i = 0; i < 50; ++i) {
    crash("a");
    advance(4s);
  }
  EXPECT_TRUE(gave_up_.empty());
  EXPECT_NE(seen_->find("a"), nullptr);
}

TEST_F(Supervisor, EndsACrashLoop) {
  int starts = 0;
  child_spec loop = spec("loop");
  loop.spawn = [&](caf::actor_system& system) {
    ++starts;
    return caf::actor_cast<caf::strong_actor_ptr>(system.spawn(
        [](caf::event_based_actor* self) { self->quit(caf::exit_reason::unhandled_exception); }));
  };
  start({spec("a"), loop});
  EXPECT_EQ(starts, 4);  // the first and three restarts
  EXPECT_EQ(gave_up_.size(), 1u);
  EXPECT_EQ(events_.back(), "end a");
}

TEST_F(Supervisor, TreatsAChildThatCannotBeMadeLikeOneThatCrashes) {
  int tries = 0;
  child_spec broken = spec("broken");
  broken.spawn = [&](caf::actor_system&) -> caf::strong_actor_ptr {
    ++tries;
    throw std::runtime_error("no such device");
  };
  start({spec("a"), broken, spec("after")});
  EXPECT_EQ(tries, 4);
  ASSERT_EQ(gave_up_.size(), 1u);
  EXPECT_NE(gave_up_[0].find("no such device"), std::string::npos);
  EXPECT_THAT(events_, ElementsAre("start a", "end a"));
}

TEST_F(Supervisor, IgnoresTheDeathOfAnEarlierGeneration) {
  start({spec("a")});
  const auto old = seen_->find("a")->address();
  crash("a");
  const auto now = seen_->find("a")->id();
  caf::anon_send(root_, caf::down_msg{old, caf::exit_reason::kill});
  run();
  EXPECT_EQ(seen_->find("a")->id(), now);
  EXPECT_EQ(seen_->entries()[0].restarts, 1u);
}

TEST_F(Supervisor, GoesOnWithoutAChildThatDoesNotEnd) {
  child_spec deaf = spec("deaf");
  caf::actor deaf_actor;
  deaf.spawn = [&](caf::actor_system& system) {
    deaf_actor = system.spawn(stubborn);
    return caf::actor_cast<caf::strong_actor_ptr>(deaf_actor);
  };
  deaf.stop_grace = 2s;
  start({spec("a"), deaf, spec("c")});
  stop(caf::actor_cast<caf::strong_actor_ptr>(root_));
  run();
  EXPECT_EQ(events_.back(), "end c");
  EXPECT_FALSE(end_reason_);
  advance(2s);
  EXPECT_EQ(events_.back(), "end a");
  EXPECT_TRUE(end_reason_);
  caf::anon_send(deaf_actor, end_atom::value);
  run();
}

TEST_F(Supervisor, DoesNotRestartWhatEndsDuringAStop) {
  start({spec("a"), spec("b")});
  caf::anon_send(caf::actor_cast<caf::actor>(seen_->find("a")), crash_atom::value);
  stop(caf::actor_cast<caf::strong_actor_ptr>(root_));
  run();
  EXPECT_EQ(std::count(events_.begin(), events_.end(), "start a"), 1);
  EXPECT_TRUE(end_reason_);
}

TEST_F(Supervisor, StopsAheadOfWhatWaitsInAMailbox) {
  start({spec("a")});
  const auto a = caf::actor_cast<caf::actor>(seen_->find("a"));
  caf::anon_send(a, crash_atom::value);
  stop(caf::actor_cast<caf::strong_actor_ptr>(a));
  std::optional<caf::error> reason;
  a->attach_functor([&](const caf::error& x) { reason = x; });
  run();
  ASSERT_TRUE(reason);
  EXPECT_EQ(*reason, caf::exit_reason::user_shutdown);
}

TEST_F(Supervisor, TakesNewChildrenInTheirPlaceAndStopsThemInOrder) {
  start({spec("a"), spec("z")});
  events_.clear();
  add_children(seen_->supervisor(), {spec("b"), spec("c")}, "z");
  run();
  EXPECT_THAT(events_, ElementsAre("start b", "start c"));
  crash("c");
  EXPECT_THAT(events_, ElementsAre("start b", "start c", "end c", "start c"));
  events_.clear();
  stop(caf::actor_cast<caf::strong_actor_ptr>(root_));
  run();
  EXPECT_THAT(events_, ElementsAre("end z", "end c", "end b", "end a"));
}

TEST_F(Supervisor, RemovesChildrenForGoodInTheOrderTold) {
  start({spec("a"), spec("b"), spec("c"), spec("d")});
  events_.clear();
  remove_children(seen_->supervisor(), {"c", "nobody", "a"}, [this] { events_.push_back("gone"); });
  run();
  EXPECT_THAT(events_, ElementsAre("end c", "end a", "gone"));
  EXPECT_EQ(seen_->find("a"), nullptr);
  EXPECT_EQ(seen_->entries().size(), 2u);
  crash("b");
  EXPECT_NE(seen_->find("b"), nullptr) << "the others are watched as before";
  add_children(seen_->supervisor(), {spec("a")}, "b");
  run();
  EXPECT_NE(seen_->find("a"), nullptr) << "the id is free again";
}

TEST_F(Supervisor, GoesOnWithoutAChildThatDoesNotLeave) {
  auto lasting = spec("stubborn");
  lasting.spawn = [](caf::actor_system& system) {
    return caf::actor_cast<caf::strong_actor_ptr>(system.spawn(stubborn));
  };
  lasting.stop_grace = 2s;
  start({spec("a"), lasting});
  const auto who = caf::actor_cast<caf::actor>(seen_->find("stubborn"));
  events_.clear();
  remove_children(seen_->supervisor(), {"stubborn", "a"}, [this] { events_.push_back("gone"); });
  run();
  EXPECT_TRUE(events_.empty());
  advance(3s);
  EXPECT_THAT(events_, ElementsAre("end a", "gone"));
  caf::anon_send(who, end_atom::value);
  run();
}

}  // namespace
