#include "kernel/supervision/supervisor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/actor_clock.hpp>
#include <caf/actor_system.hpp>
#include <caf/atom.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/sec.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/system_messages.hpp>
#include <cstdint>
#include <deque>
#include <exception>
#include <iterator>
#include <utility>

#include "kernel/supervision/restart_window.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe::supervision {

// What add_children and remove_children send.
struct addition {
  std::vector<child_spec> children;
  std::string before;
};
struct removal {
  std::deque<std::string> ids;  // that are still there
  std::function<void()> gone;
};
using addition_ptr = std::shared_ptr<const addition>;
using removal_ptr = std::shared_ptr<removal>;

}  // namespace troupe::supervision

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::supervision::addition_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::supervision::removal_ptr)

namespace troupe::supervision {

namespace {

using overdue_atom = caf::atom_constant<caf::atom("overdue")>;  // to itself: the grace of an actor is over
using begin_atom = caf::atom_constant<caf::atom("begin")>;      // to itself: start the children

struct child {
  child_spec spec;
  restart_window window;
  caf::strong_actor_ptr who;  // null = not running
};

bool is_normal(const caf::error& reason) {
  return !reason || reason == caf::exit_reason::normal || reason == caf::exit_reason::user_shutdown;
}

struct supervisor_state {
  static inline const char* name = "supervisor";
  using pointer = caf::stateful_actor<supervisor_state>*;

  void start(pointer self, child& c) {
    try {
      c.who = c.spec.spawn(self->system());
    } catch (const std::exception& problem) {
      log::error("supervisor", "actor does not start", {{"actor", c.spec.id}, {"reason", problem.what()}});
      restart(self, c, problem.what());
      return;
    }
    self->monitor(caf::actor_cast<caf::actor>(c.who));
    if (options.seen) options.seen->started(c.spec.id, c.who);
    log::debug("supervisor", "actor started", {{"actor", c.spec.id}, {"number", c.who->id()}});
    introduce(c);
  }

  // The newcomer to all that run, and they to it.
  void introduce(const child& newcomer) const {
    if (!options.announce) return;
    for (const child& other : children) {
      if (&other == &newcomer || !other.who) continue;
      options.announce(other.who, newcomer.spec.id, newcomer.who);
      options.announce(newcomer.who, other.spec.id, other.who);
    }
  }

  void down(pointer self, const caf::down_msg& message) {
    for (child& c : children) {
      if (!c.who || c.who->address() != message.source) continue;
      c.who = nullptr;
      if (options.seen) options.seen->ended(c.spec.id);
      if (stopping) {
        stop_next(self);
      } else if (leaving(c)) {
        remove_next(self);
      } else {
        ended(self, c, message.reason);
      }
      return;
    }  // else: one that was replaced already
  }

  void ended(pointer self, child& c, const caf::error& reason) {
    const bool again = c.spec.restart == restart_rule::always ||
                       (c.spec.restart == restart_rule::on_failure && !is_normal(reason));
    const std::string text = reason ? self->system().render(reason) : "normal";
    if (!again) {
      log::info("supervisor", "actor ended", {{"actor", c.spec.id}, {"reason", text}});
      return;
    }
    restart(self, c, text);
  }

  void restart(pointer self, child& c, const std::string& reason) {
    if (stopping) return;
    if (!c.window.allow(self->clock().now())) {
      give_up(self, c, reason);
      return;
    }
    log::warning("supervisor", "actor restarted", {{"actor", c.spec.id}, {"reason", reason}});
    if (options.seen) options.seen->restarted(c.spec.id, reason);
    start(self, c);
  }

  void give_up(pointer self, const child& c, const std::string& reason) {
    const std::string why = fmt::format("{} ended more than {} times within {} s; last reason: {}", c.spec.id,
                                        c.spec.at_most, c.spec.within.count() / 1000.0, reason);
    log::error("supervisor", "given up", {{"actor", c.spec.id}, {"reason", why}});
    if (options.gave_up) options.gave_up(why);
    begin_stop(self, caf::make_error(caf::sec::runtime_error, why));
  }

  void begin_stop(pointer self, caf::error reason) {
    if (stopping) return;
    stopping = true;
    end_reason = std::move(reason);
    next = children.size();
    stop_next(self);
  }

  // Goes up the list to the next child that runs; ends with the first.
  void stop_next(pointer self) {
    if (next < children.size() && children[next].who) return;  // still waiting for this one
    while (next > 0 && !children[next - 1].who) --next;
    if (next == 0) {
      self->quit(end_reason);
      return;
    }
    --next;
    end(self, children[next]);
  }

  void end(pointer self, const child& c) {
    stop(c.who);
    self->delayed_send(self, c.spec.stop_grace, overdue_atom::value, c.who->id());
  }

  void overdue(pointer self, caf::actor_id number) {
    for (child& c : children) {
      if (!c.who || c.who->id() != number) continue;
      log::warning("supervisor", "actor does not end; going on without it", {{"actor", c.spec.id}});
      c.who = nullptr;
      if (options.seen) options.seen->ended(c.spec.id);
      if (stopping) return stop_next(self);
      return remove_next(self);
    }
  }

  void add(pointer self, const addition& wanted) {
    if (stopping) return;
    const auto place = std::ranges::find(children, wanted.before, [](const child& c) { return c.spec.id; });
    const auto first = place - children.begin();
    std::vector<child> made;
    for (const child_spec& spec : wanted.children)
      made.push_back({spec, restart_window(spec.at_most, spec.within), nullptr});
    const auto count = static_cast<std::ptrdiff_t>(made.size());
    children.insert(place, std::make_move_iterator(made.begin()), std::make_move_iterator(made.end()));
    for (auto i = first; i < first + count && !stopping; ++i)
      start(self, children[static_cast<std::size_t>(i)]);
  }

  // Its turn has come: it is being stopped.
  bool leaving(const child& c) const {
    return !removals.empty() && !removals.front()->ids.empty() && removals.front()->ids.front() == c.spec.id;
  }

  void remove(pointer self, const removal_ptr& wanted) {
    if (stopping) return;
    removals.push_back(wanted);
    if (removals.size() == 1) remove_next(self);
  }

  // Goes on behind whoever is down.
  void remove_next(pointer self) {
    while (!removals.empty()) {
      removal& r = *removals.front();
      while (!r.ids.empty()) {
        const auto found =
            std::ranges::find(children, r.ids.front(), [](const child& c) { return c.spec.id; });
        if (found != children.end()) {
          if (found->who) return end(self, *found);
          log::debug("supervisor", "actor removed", {{"actor", found->spec.id}});
          if (options.seen) options.seen->forgotten(found->spec.id);
          children.erase(found);
        }
        r.ids.pop_front();
      }
      const auto done = removals.front();
      removals.pop_front();
      if (done->gone) done->gone();
    }
  }

  supervisor_options options;
  std::vector<child> children;
  bool stopping = false;
  std::size_t next = 0;  // while stopping: the child that is waited for
  std::deque<removal_ptr> removals;
  caf::error end_reason;
};

caf::behavior supervise(caf::stateful_actor<supervisor_state>* self, supervisor_options options) {
  auto& state = self->state;
  state.options = std::move(options);
  for (const child_spec& spec : state.options.children)
    state.children.push_back({spec, restart_window(spec.at_most, spec.within), nullptr});
  self->set_down_handler([self](caf::down_msg& message) { self->state.down(self, message); });
  self->set_exit_handler([self](caf::exit_msg& message) { self->state.begin_stop(self, message.reason); });
  if (state.options.seen) state.options.seen->led_by(caf::actor_cast<caf::strong_actor_ptr>(self));
  self->send(self, begin_atom::value);
  return {
      [self](begin_atom) {
        for (child& c : self->state.children)
          if (!self->state.stopping) self->state.start(self, c);
      },
      [self](overdue_atom, caf::actor_id number) { self->state.overdue(self, number); },
      [self](const addition_ptr& wanted) { self->state.add(self, *wanted); },
      [self](const removal_ptr& wanted) { self->state.remove(self, wanted); },
  };
}

}  // namespace

caf::actor spawn_supervisor(caf::actor_system& system, supervisor_options options) {
  return system.spawn(supervise, std::move(options));
}

void add_children(const caf::strong_actor_ptr& supervisor, std::vector<child_spec> children,
                  std::string before) {
  if (!supervisor) return;
  caf::anon_send(caf::actor_cast<caf::actor>(supervisor),
                 addition_ptr(std::make_shared<addition>(addition{std::move(children), std::move(before)})));
}

void remove_children(const caf::strong_actor_ptr& supervisor, std::vector<std::string> ids,
                     std::function<void()> gone) {
  if (!supervisor) return;
  auto wanted = std::make_shared<removal>();
  wanted->ids.assign(std::make_move_iterator(ids.begin()), std::make_move_iterator(ids.end()));
  wanted->gone = std::move(gone);
  caf::anon_send(caf::actor_cast<caf::actor>(supervisor), removal_ptr(std::move(wanted)));
}

void stop(const caf::strong_actor_ptr& who, caf::exit_reason reason) {
  if (!who) return;
  caf::anon_send<caf::message_priority::high>(caf::actor_cast<caf::actor>(who),
                                              caf::exit_msg{who->address(), reason});
}

}  // namespace troupe::supervision
