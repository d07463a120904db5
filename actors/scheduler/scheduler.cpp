#include "actors/scheduler/scheduler.hpp"

#include <atomic>
#include <caf/actor_cast.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernel/telemetry/log.hpp"

namespace troupe {

namespace {

using token_sink = caf::typed_actor<caf::reacts_to<message<wire::TokenBatch>>>;

struct scheduler_state {
  static inline const char* name = "scheduler";
  scheduler_options options;
  std::optional<batch_planner> planner;
  executor_actor executor;
  cache_manager_actor cache_manager;
  message<wire::ModelLoaded> model;
  std::vector<token_sink> destinations;  // by number; null: gone
  std::unordered_map<caf::actor_addr, std::uint32_t> numbers;
  std::vector<token_batch> batches;
  std::uint64_t batches_sent = 0;
  bool ticking = false;

  void trace(hop where, std::uint64_t step) const {
    if (options.trace) options.trace(where, step);
  }
};

using scheduler_pointer = scheduler_actor::stateful_pointer<scheduler_state>;

std::uint64_t now_ns(scheduler_pointer self) {
  return static_cast<std::uint64_t>(self->system().clock().now().time_since_epoch() /
                                    std::chrono::nanoseconds(1));
}

void pump(scheduler_pointer self);

void ask_for_blocks(scheduler_pointer self, const message<wire::Lease>& lease) {
  const std::uint64_t number = self->state.planner->lease();
  self->state.trace(hop::leases_asked, number);
  self->request(self->state.cache_manager, caf::infinite, lease)
      .then(
          [self, number](const message<wire::LeaseGranted>& answer) {
            self->state.trace(hop::leases_granted, number);
            self->state.planner->granted(number, *answer);
            pump(self);
          },
          [self, number](const caf::error&) { self->state.planner->lease_failed(number); });
}

// The empty answer says that the destination has worked the batch off. One that dies owes it for ever; bury() knows.
void tell(scheduler_pointer self, std::uint32_t number, message<wire::TokenBatch> batch) {
  const token_sink& destination = self->state.destinations[number];
  if (!destination) return;
  self->state.trace(hop::batch_sent, self->state.batches_sent++);
  self->request(destination, caf::infinite, std::move(batch))
      .then(
          [self, number] {
            self->state.planner->tokens_taken(number);
            pump(self);
          },
          [](const caf::error&) {});
}

// Sends whatever the planner has to say now.
void pump(scheduler_pointer self) {
  scheduler_state& s = self->state;
  const std::uint64_t now = now_ns(self);
  for (bool more = true; more;) {
    more = false;
    if (auto release = s.planner->take_release()) {
      if (s.cache_manager) self->send(s.cache_manager, *release);
    }
    if (auto lease = s.planner->next_lease()) ask_for_blocks(self, *lease);
    s.trace(hop::plan_begun, s.planner->next_step());
    if (auto plan = s.planner->next_plan(now)) {
      s.trace(hop::plan_sent, (*plan)->step());
      self->send(s.executor, *plan);
      more = true;
    }
    more = more || s.planner->has_release();
  }
  s.batches.clear();
  s.planner->take_tokens(s.batches);
  for (token_batch& b : s.batches) tell(self, b.destination, std::move(b.batch));
  if (s.ticking || s.planner->idle()) return;
  s.ticking = true;
  self->delayed_send(scheduler_actor{self}, s.options.tick, tick_atom_v);
}

std::uint32_t destination_of_sender(scheduler_pointer self) {
  scheduler_state& s = self->state;
  const auto address = caf::actor_cast<caf::actor_addr>(self->current_sender());
  auto [known, added] = s.numbers.try_emplace(address, static_cast<std::uint32_t>(s.destinations.size()));
  if (added) {
    s.destinations.push_back(caf::actor_cast<token_sink>(self->current_sender()));
    self->monitor(address);
  }
  return known->second;
}

void meet_executor(scheduler_pointer self, executor_actor peer) {
  scheduler_state& s = self->state;
  if (peer == s.executor) return;
  if (s.executor) s.planner->executor_gone(now_ns(self));
  s.executor = std::move(peer);
  if (!s.executor) return;
  self->monitor(s.executor);
  s.planner->executor_here();
}

void meet_cache_manager(scheduler_pointer self, cache_manager_actor peer) {
  scheduler_state& s = self->state;
  if (peer == s.cache_manager) return;
  if (s.cache_manager) s.planner->cache_gone(now_ns(self));
  s.cache_manager = std::move(peer);
  if (!s.cache_manager) return;
  self->monitor(s.cache_manager);
  if (s.model) self->send(s.cache_manager, s.model);
  s.planner->cache_here();
}

void bury(scheduler_pointer self, const caf::actor_addr& gone) {
  scheduler_state& s = self->state;
  if (s.executor && s.executor.address() == gone) meet_executor(self, executor_actor{});
  if (s.cache_manager && s.cache_manager.address() == gone) meet_cache_manager(self, cache_manager_actor{});
  if (auto known = s.numbers.find(gone); known != s.numbers.end()) {
    s.planner->abort_destination(known->second);
    s.destinations[known->second] = token_sink{};
    s.numbers.erase(known);
  }
  pump(self);
}

message<wire::SchedulerStatus> status(scheduler_pointer self) {
  const scheduler_state& s = self->state;
  const batch_planner& p = *s.planner;
  flatbuffers::FlatBufferBuilder builder(128);
  return message<wire::SchedulerStatus>::finish(
      builder, wire::CreateSchedulerStatus(builder, s.options.planner.model.value, p.waiting(), p.running(),
                                           p.generated_tokens(), p.steps(), p.preemptions(), p.recoveries(),
                                           p.ready(), p.version(), s.model ? s.model->weight_bytes() : 0,
                                           p.tokens_per_second(now_ns(self))));
}

scheduler_actor::behavior_type scheduler(scheduler_pointer self, scheduler_options options) {
  self->state.options = std::move(options);
  self->state.planner.emplace(self->state.options.planner);
  self->set_down_handler([self](const caf::down_msg& down) { bury(self, down.source); });
  return {[self](peer_atom, const std::string& id, const caf::strong_actor_ptr& handle) {
            if (id == "executor") meet_executor(self, caf::actor_cast<executor_actor>(handle));
            if (id == "cache_manager") meet_cache_manager(self, caf::actor_cast<cache_manager_actor>(handle));
            pump(self);
          },
          [self](const message<wire::ModelLoaded>& loaded) {
            scheduler_state& s = self->state;
            if (loaded->model() != s.options.planner.model.value) return;
            s.planner->model_loaded(*loaded, now_ns(self));
            if (loaded->pool() != s.planner->pool()) return;  // of an executor that is gone
            s.model = loaded;
            if (s.cache_manager) self->send(s.cache_manager, loaded);
            pump(self);
          },
          [self](const message<wire::Submit>& request) {
            self->state.planner->submit(destination_of_sender(self), request, now_ns(self));
            pump(self);
          },
          [self](const message<wire::Abort>& request) {
            self->state.planner->abort(*request);
            pump(self);
          },
          [self](const message<wire::StepResult>& result) {
            self->state.trace(hop::result_taken, result->step());
            self->state.planner->result(*result, now_ns(self));
            pump(self);
            self->state.trace(hop::tokens_told, result->step());
          },
          [self](tick_atom) {
            self->state.ticking = false;
            self->state.planner->tick(now_ns(self));
            pump(self);
          },
          [self](const message<wire::SwitchVersion>& wanted) {
            const auto moved = self->state.planner->switch_to(*wanted, now_ns(self));
            pump(self);
            flatbuffers::FlatBufferBuilder builder(64);
            return message<wire::Switched>::finish(
                builder, wire::CreateSwitched(builder, wanted->version(), moved.continued, moved.recomputed));
          },
          [self](watch_atom) { return self->state.planner->watch(now_ns(self)); },
          [self](status_atom) { return status(self); }};
}

// Never the same twice on a machine, whatever process asks.
std::uint64_t new_incarnation() {
  static std::atomic<std::uint64_t> last{0};
  const auto now = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                              std::chrono::nanoseconds(1));
  std::uint64_t before = last.load();
  std::uint64_t mine = 0;
  do mine = now > before ? now : before + 1;
  while (!last.compare_exchange_weak(before, mine));
  return mine;
}

}  // namespace

scheduler_actor spawn_scheduler(caf::actor_system& system, scheduler_options options) {
  options.planner.incarnation = new_incarnation();
  return system.spawn(scheduler, std::move(options));
}

}  // namespace troupe
