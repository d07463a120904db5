// Cares for the life of one model: has it loaded, and tells the actors that need to know.
//   hears    peer  from supervisor   "executor": sends LoadModel to it
//                                    "cache_manager", "scheduler/<m>": get ModelLoaded, now or as soon as it is known
//            tick  from itself       tries again after a load that failed
//            adopt from deployer     another version is the one to load from now on, or none: it sleeps
//   answers  nothing; options.on_load hears each outcome
//   owns     the LoadModel message (the Program's bytes) and the last ModelLoaded
//   waits    never
//   failed   a load that the executor refuses is reported to on_load and tried again after 1 s, 2 s, ... 30 s: files may be
//            mended meanwhile. One that dies with its executor is tried again when the next executor is announced
//   restart  announces itself to nobody; it loads again, which is no work for an executor that holds the model
#pragma once

#include <caf/actor_system.hpp>
#include <functional>

#include "actors/host/prepared_model.hpp"
#include "actors/types.hpp"
#include "kernel/base/result.hpp"

namespace troupe {

struct host_options {
  prepared_model_ptr model;
  // What the model's instance is to run now; asked at the start and at each `adopt`. Empty: `model`, as version 0.
  std::function<versioned_model()> newest;
  // Called on the host's thread with the outcome of each load. May be empty.
  std::function<void(const result<message<wire::ModelLoaded>>&)> on_load;
};

// A version of a model, as the executor is asked for it.
message<wire::LoadModel> load_request(const prepared_model& model, std::uint32_t version);

host_actor spawn_host(caf::actor_system& system, host_options options);

}  // namespace troupe
