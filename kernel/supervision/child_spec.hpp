// Supervision is data: which actors run, in which order, and what happens when one ends.
#pragma once

#include <caf/actor_control_block.hpp>
#include <caf/fwd.hpp>
#include <chrono>
#include <functional>
#include <string>

namespace troupe::supervision {

enum class restart_rule {
  always,      // whatever the reason
  on_failure,  // not after a normal end
  never,       // its end is no event
};

struct child_spec {
  std::string id;  // unique; under it the child is announced to the others
  // Makes the actor. Called once per start; may throw, which counts as an end with that reason.
  std::function<caf::strong_actor_ptr(caf::actor_system&)> spawn;
  restart_rule restart = restart_rule::always;
  // Restarts in any span of this length; one more and all is given up.
  unsigned at_most = 5;
  std::chrono::milliseconds within = std::chrono::seconds(60);
  std::chrono::milliseconds stop_grace = std::chrono::seconds(5);  // how long a stop waits for it
};

}  // namespace troupe::supervision
