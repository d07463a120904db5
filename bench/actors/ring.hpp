// What a message costs: a StepPlan and a TokenBatch through a ring of three actors.
#pragma once

#include <caf/actor_system.hpp>

#include "bench/actors/settings.hpp"

namespace troupe::bench {

void run_rings(caf::actor_system& system, const settings& s);

}  // namespace troupe::bench
