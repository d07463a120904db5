// Every type that crosses an actor mailbox, registered with the actor framework, and the typed handle of each actor.
// What the messages mean is said in schemas/*.fbs and in each actor's own header.
//
// Life of a handle: the supervisor announces each child (again after each restart) to all others by
// `peer` with the child's id: "executor", "cache_manager", "host/<m>", "scheduler/<m>", "tokenizer/<m>/<i>", "deployer", "gateway",
// m = model id, i = number in the pool. An actor keeps those that it talks to and ignores the rest.
#pragma once

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/type_id.hpp>
#include <caf/typed_actor.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel/frame/caf.hpp"
#include "troupe/schemas/actors_generated.h"
#include "troupe/schemas/client_generated.h"

namespace troupe {

// A reply on its way to the client that opened `stream`.
struct outgoing {
  std::uint64_t stream = 0;
  bool last = false;  // the stream is complete with it
  message<wire::ServerReply> reply;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, outgoing& x) {
  return f(caf::meta::type_name("troupe::outgoing"), x.stream, x.last, x.reply);
}

using outgoing_batch = std::vector<outgoing>;

}  // namespace troupe

// clang-format off
CAF_BEGIN_TYPE_ID_BLOCK(troupe, caf::first_custom_type_id)
CAF_ADD_TYPE_ID(troupe, (troupe::outgoing))
CAF_ADD_TYPE_ID(troupe, (troupe::outgoing_batch))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::ClientRequest>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::ServerReply>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::Submit>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::Abort>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::TokenBatch>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::Lease>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::LeaseGranted>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::Release>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::CacheStatus>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::LoadModel>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::ModelLoaded>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::UnloadModel>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::ModelUnloaded>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::StepPlan>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::StepResult>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::SchedulerStatus>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::SwitchVersion>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::Switched>))
CAF_ADD_TYPE_ID(troupe, (troupe::message<troupe::wire::WatchReport>))
CAF_ADD_ATOM(troupe, troupe, peer_atom, "peer")        // supervisor to all: (id, handle)
CAF_ADD_ATOM(troupe, troupe, status_atom, "status")    // gateway to scheduler and cache-manager
CAF_ADD_ATOM(troupe, troupe, admit_atom, "admit")      // gateway to tokenizer: (stream, request, received_ns)
CAF_ADD_ATOM(troupe, troupe, abandon_atom, "abandon")  // gateway to tokenizer: (stream, why): end it
CAF_ADD_ATOM(troupe, troupe, arrive_atom, "arrive")    // socket to gateway: (client, request)
CAF_ADD_ATOM(troupe, troupe, drain_atom, "drain")      // to gateway: finish what is open, accept nothing new; answered when done
CAF_ADD_ATOM(troupe, troupe, tick_atom, "tick")        // an actor to itself: time has passed
CAF_ADD_ATOM(troupe, troupe, changed_atom, "changed")  // deployer to gateway: the catalogue says something new
CAF_ADD_ATOM(troupe, troupe, vacate_atom, "vacate")    // deployer to gateway: (model, deadline in ms); answered when no stream is left
CAF_ADD_ATOM(troupe, troupe, loaded_atom, "loaded")    // host to deployer: (what was loaded) or (model, error code, text)
CAF_ADD_ATOM(troupe, troupe, watch_atom, "watch")      // deployer to scheduler: how does the version do that runs
CAF_ADD_ATOM(troupe, troupe, adopt_atom, "adopt")      // deployer to host: another version is the one to load from now on
CAF_ADD_ATOM(troupe, troupe, redirect_atom, "redirect")  // deployer to tokenizer: (model, scheduler) open streams go on there
CAF_END_TYPE_ID_BLOCK(troupe)

namespace troupe {

using peer_reaction = caf::reacts_to<peer_atom, std::string, caf::strong_actor_ptr>;

using executor_actor = caf::typed_actor<
    peer_reaction,
    caf::replies_to<message<wire::LoadModel>>::with<message<wire::ModelLoaded>>,
    caf::replies_to<message<wire::UnloadModel>>::with<message<wire::ModelUnloaded>>,
    caf::reacts_to<message<wire::StepPlan>>,  // StepResult goes to the sender
    caf::reacts_to<tick_atom>>;               // itself: is a step computed?

using cache_manager_actor = caf::typed_actor<
    peer_reaction,
    caf::reacts_to<message<wire::ModelLoaded>>,
    caf::replies_to<message<wire::Lease>>::with<message<wire::LeaseGranted>>,
    caf::reacts_to<message<wire::Release>>,
    caf::replies_to<message<wire::UnloadModel>>::with<message<wire::ModelUnloaded>>,
    caf::replies_to<status_atom>::with<message<wire::CacheStatus>>>;

using scheduler_actor = caf::typed_actor<
    peer_reaction,
    caf::reacts_to<message<wire::ModelLoaded>>,
    caf::reacts_to<message<wire::Submit>>,  // TokenBatch goes to the sender
    caf::reacts_to<message<wire::Abort>>,
    caf::reacts_to<message<wire::StepResult>>,
    caf::reacts_to<tick_atom>,
    caf::replies_to<message<wire::SwitchVersion>>::with<message<wire::Switched>>,
    caf::replies_to<watch_atom>::with<message<wire::WatchReport>>,
    caf::replies_to<status_atom>::with<message<wire::SchedulerStatus>>>;

using tokenizer_actor = caf::typed_actor<
    peer_reaction,
    caf::reacts_to<admit_atom, std::uint64_t, message<wire::ClientRequest>, std::uint64_t>,
    caf::reacts_to<abandon_atom, std::uint64_t, std::uint16_t>,  // wire::ErrorCode; cancelled = the client asked for it
    caf::reacts_to<message<wire::TokenBatch>>,
    caf::reacts_to<redirect_atom, std::uint32_t, caf::strong_actor_ptr>>;

using gateway_actor = caf::typed_actor<
    peer_reaction,
    caf::reacts_to<arrive_atom, std::string, message<wire::ClientRequest>>,
    caf::reacts_to<outgoing_batch>,
    caf::reacts_to<tick_atom>,
    caf::reacts_to<changed_atom>,
    caf::replies_to<vacate_atom, std::uint32_t, std::uint64_t>::with<std::uint32_t, std::uint32_t>,  // streams that ended by themselves, and that were ended
    caf::replies_to<drain_atom, std::uint64_t>::with<bool>>;  // (deadline in ms); true = everything finished in time

using host_actor = caf::typed_actor<
    peer_reaction,
    caf::reacts_to<adopt_atom>,
    caf::reacts_to<tick_atom>>;

using deployer_actor = caf::typed_actor<
    peer_reaction,
    caf::reacts_to<admit_atom, std::uint64_t, message<wire::ClientRequest>, std::uint64_t>,  // replies go to the gateway
    caf::reacts_to<abandon_atom, std::uint64_t, std::uint16_t>,
    caf::reacts_to<loaded_atom, message<wire::ModelLoaded>>,
    caf::reacts_to<loaded_atom, std::uint32_t, std::uint16_t, std::string>>;

// clang-format on

}  // namespace troupe
