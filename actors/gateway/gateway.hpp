// The gateway: between the front door and the actors. Knows who asked for what; touches neither text nor tokens.
//   hears    tick            from the door         takes some of what has arrived there; also the beat of its housekeeping
//                            from itself           when there is more at the door: behind what waits in its own mailbox
//            arrive          from other doors      (client, request): the same for a request that comes as a message
//            outgoing_batch  from tokenizers       on to the door; `last` closes the request
//            drain (ms)      from whoever stops    no new work; answered true when all that was open has ended, or false when the
//                                                  time was over and the rest was ended with shutting_down
//            changed         from the deployer     the catalogue opens or closes a name; a closed one keeps its open streams
//            vacate (m, ms)  from the deployer     answered when no stream of a closed model is left: how many ended by themselves and
//                                                  how many were ended, with `unavailable`, because the time was over (0 = no end)
//            peer            from the supervisor   schedulers, tokenizers, the cache manager, the deployer
//   tells    admit, abandon  to a tokenizer        a stream stays with its worker
//                            to the deployer       the same for Operate, ListHistory and FollowEvents: it answers like a tokenizer
//            Abort           to a scheduler        with every abandon, and when the worker of a stream is gone
//            status          to schedulers and the cache manager, with a time limit: clients' ServerStatus and ListModels. One
//                            such round at a time answers all that were asked before it began
//   owns     nothing that must survive: the table of open requests is the door's
//   waits    never
//   workers  without a live worker of its model a request waits for one, for `worker_wait` at most; the open requests of a worker
//            that ends get `unavailable`
//   stop     (an exit message with user_shutdown) ends what is open with shutting_down and answers a drain with false
//   death    (any other end) its successor ends every request that was open with `unavailable` and has the tokenizers drop them
#pragma once

#include <caf/actor_system.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/deployment/catalogue.hpp"
#include "actors/gateway/status_report.hpp"
#include "actors/gateway/zmq/zmq_door.hpp"
#include "actors/host/prepared_model.hpp"
#include "actors/types.hpp"

namespace troupe {

struct gateway_options {
  std::shared_ptr<gateway::zmq_door> door;
  deployment::catalogue_ptr models;  // the first one is the default
  // Who runs under an id now, for models that open later; empty = nobody.
  std::function<caf::strong_actor_ptr(const std::string&)> find_peer;
  bool takes_operations =
      true;  // false: Operate is refused with `unsupported`, for whoever reaches the door is not an operator
  std::string server = "troupe";  // name and version, for Welcome and ServerStatus
  std::chrono::milliseconds status_wait{500};
  std::size_t inquiries_per_client = 32;  // ListModels and ServerStatus that wait for their answer
  std::chrono::milliseconds worker_wait{10'000};
  std::chrono::milliseconds keep_alive{2'000};  // an open request is told that it is, after that much silence
  std::function<std::vector<gateway::restart_count>()> restarts;  // asked for ServerStatus; may be empty
};

gateway_actor spawn_gateway(caf::actor_system& system, gateway_options options);

}  // namespace troupe
