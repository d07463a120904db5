// Starts a list of actors, watches them and restarts them by their rules. Knows nothing about what they do.
//
//   start    down the list; each newcomer is announced to all that run, and they to it
//   down     a child ended: restarted by its rule and announced anew. More than `at_most` restarts within `within`: the
//            supervisor gives up, stops the rest and ends with an error that tells why
//   exit     (an exit message, sent with high priority) stops up the list: the last child first, the next when that one is
//            down or its grace is over, then ends with the reason of the exit message
//   hears    add_children, remove_children (below), while it does not stop
//   waits    never
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_control_block.hpp>
#include <caf/error.hpp>
#include <caf/exit_reason.hpp>
#include <caf/fwd.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernel/supervision/child_spec.hpp"
#include "kernel/supervision/roster.hpp"

namespace troupe::supervision {

struct supervisor_options {
  std::vector<child_spec> children;

  // Tells `to` that `who` runs under `id`. Called on the supervisor's thread; may be empty.
  std::function<void(const caf::strong_actor_ptr& to, const std::string& id,
                     const caf::strong_actor_ptr& who)>
      announce;

  // Called once when the supervisor gives up, before it stops the children; on its thread; may be empty.
  std::function<void(const std::string& why)> gave_up;

  std::shared_ptr<roster> seen;  // may be null
};

caf::actor spawn_supervisor(caf::actor_system& system, supervisor_options options);

// New children in front of the child `before`, or at the end if there is none; they are started at once, in their order.
void add_children(const caf::strong_actor_ptr& supervisor, std::vector<child_spec> children,
                  std::string before);

// Stops children for good, one after another in this order, and forgets them: the next when that one is down or its grace is over.
// Unknown ids are passed over. `gone` is called once behind the last one, on the supervisor's thread, unless it stops
// before; may be empty.
void remove_children(const caf::strong_actor_ptr& supervisor, std::vector<std::string> ids,
                     std::function<void()> gone);

// Ends an actor ahead of everything in its mailbox (an ordinary exit message would wait its turn).
void stop(const caf::strong_actor_ptr& who, caf::exit_reason reason = caf::exit_reason::user_shutdown);

}  // namespace troupe::supervision
