// What the deployer actor knows and does, for its files. The actor's contract: deployer.hpp.
#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "actors/deployment/deployer.hpp"

namespace troupe::deployment {

using staged_ptr = std::shared_ptr<const staged>;

using go_atom = caf::atom_constant<caf::atom("go")>;  // to a stager: once, then it ends
using gone_atom =
    caf::atom_constant<caf::atom("gone")>;  // to the deployer: (operation) its instance's actors are gone
using stager_actor = caf::typed_actor<caf::replies_to<go_atom>::with<staged_ptr>>;
using private_deployer =
    deployer_actor::extend<caf::reacts_to<gone_atom, std::uint64_t>, caf::reacts_to<tick_atom>>;

struct follower {
  std::uint64_t request = 0;
  std::string model;  // empty = all
};

struct deployer_state {
  static inline const char* name = "deployer";

  private_deployer::pointer self = nullptr;
  deployer_options options;
  gateway_actor gateway;
  executor_actor executor;
  cache_manager_actor cache_manager;
  std::map<std::uint64_t, follower> followers;  // by stream
  bool ticking = false;

  book& all() const { return *options.book; }
  job& job_of(std::uint64_t id) const { return (*options.jobs)[id]; }
  // The operation, if it still is in that state.
  const operation* still(std::uint64_t id, state in) const;

  void start();
  void meet(const std::string& id, const caf::strong_actor_ptr& peer);

  // from operators (deployer.cpp)
  void admit(std::uint64_t stream, const wire::ClientRequest& request);
  void operate(waiter asker, const wire::Operate& wanted);
  bool steer(waiter asker, const wire::Operate& wanted);
  void abandon(std::uint64_t stream);
  void answer(std::uint64_t stream, reply_message reply, bool last = true);

  // operations (deployer_states.cpp)
  void take(const book::changes& changes);
  void advance(std::uint64_t id, event what, std::string_view reason = {});
  void fail_operation(std::uint64_t id, const error& why);
  void failed(std::uint64_t id, const caf::error& problem);
  void act(const operation& o);
  void stage(const operation& o);
  void verify(const operation& o);
  void run_stager(const operation& o, std::function<result<staged>()> work);
  void load(const operation& o);
  void switch_over(const operation& o);
  void watch(const operation& o);
  void retire(const operation& o);
  void clear(const operation& o);
  void undo(const operation& o);
  void end(const operation& o);
  void loaded(std::uint32_t model, const std::function<void(std::uint64_t)>& then) const;
  void tick();
  void tell_gateway() const;
  void start_ticking();

  // instances that end
  void vacate(const operation& o, const prepared_model_ptr& instance, std::uint64_t deadline_ms);
  void stop_instance(const operation& o, const prepared_model_ptr& instance);
  void unload_instance(std::uint64_t id);

  // how clients are moved (deployer_moves.cpp)
  result<void> choose_move(const operation& o, job& mine) const;
  void load_version(const operation& o);
  void switch_version(const operation& o);
  void serve_candidate(const operation& o);
  void poll(const operation& o);
  void judge(const operation& o, const wire::WatchReport& seen);
  void promote_version(const operation& o);
  void promote_candidate(const operation& o);
  void undo_version(const operation& o);
  void undo_candidate(const operation& o);
  void unload_version(std::uint64_t id, std::uint32_t version);
  void settle(const prepared_model& instance, std::uint32_t version, bool probation) const;
  void tell_scheduler(const prepared_model& instance, const wire::SwitchVersionT& what) const;
  void redirect(const prepared_model& from, const prepared_model& to) const;
  void move_on(const operation& o, const prepared_model_ptr& from, const prepared_model_ptr& to);
  void see_off(const prepared_model_ptr& instance) const;
  scheduler_actor scheduler_of(const prepared_model& instance) const;
  host_actor host_of(const prepared_model& instance) const;

  // models that rest (deployer_rest.cpp)
  void rest(const operation& o);
  void wake(const operation& o);
  void tell_of_sleep(job& mine, const wire::ModelUnloaded& done) const;
  void tell_of_waking(std::uint64_t id, const wire::ModelLoaded& done) const;
};

message<wire::UnloadModel> unload_message(model_id model, std::int32_t version = -1);
// It will be woken: the executor keeps its weights if it can.
message<wire::UnloadModel> rest_message(model_id model);

}  // namespace troupe::deployment

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::deployment::staged_ptr)
