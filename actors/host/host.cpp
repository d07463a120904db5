#include "actors/host/host.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <utility>

#include "actors/errors.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {

namespace {

using namespace std::chrono_literals;

constexpr auto first_delay = std::chrono::milliseconds(1s);
constexpr auto longest_delay = std::chrono::milliseconds(30s);

}  // namespace

message<wire::LoadModel> load_request(const prepared_model& model, std::uint32_t version) {
  const auto program = model.program.bytes();
  flatbuffers::FlatBufferBuilder builder(program.size() + 512, nullptr, false, 16);
  builder.ForceVectorAlignment(program.size(), 1, 16);
  const auto bytes = builder.CreateVector(program.data(), program.size());
  const auto name = builder.CreateString(model.name);
  const auto folder = builder.CreateString(model.checkpoint.folder.string());
  const auto module =
      model.module == nullptr ? 0 : builder.CreateString(model.module->staged_path().string());
  return message<wire::LoadModel>::finish(
      builder, wire::CreateLoadModel(builder, model.id.value, name, folder, bytes, module, version));
}

namespace {

struct host_state {
  static inline const char* name = "host";
  using pointer = host_actor::stateful_pointer<host_state>;

  void meet(pointer self, const std::string& id, const caf::strong_actor_ptr& who) {
    if (id == "executor") {
      executor = caf::actor_cast<executor_actor>(who);
      loaded = {};
      delay = first_delay;
      load(self);
    } else if (id == "cache_manager") {
      cache_manager = caf::actor_cast<cache_manager_actor>(who);
      if (loaded) self->send(cache_manager, loaded);
    } else if (id == scheduler_id) {
      scheduler = caf::actor_cast<scheduler_actor>(who);
      if (loaded) self->send(scheduler, loaded);
    }
  }

  void choose() {
    const auto now = options.newest ? options.newest() : versioned_model{options.model, 0};
    request = now.model ? load_request(*now.model, now.version) : message<wire::LoadModel>{};
  }

  // The executor has it already, unless it was restarted in between.
  void adopt(pointer self) {
    choose();
    if (executor) load(self);
  }

  void load(pointer self) {
    loaded = {};
    if (!request) return;  // it sleeps
    const std::uint64_t turn = ++turns;
    self->request(executor, caf::infinite, request)
        .then(
            [this, self, turn](const message<wire::ModelLoaded>& answer) {
              if (turn == turns) succeeded(self, answer);
            },
            [this, self, turn](const caf::error& problem) {
              if (turn == turns) failed(self, problem);
            });
  }

  void succeeded(pointer self, const message<wire::ModelLoaded>& answer) {
    loaded = answer;
    delay = first_delay;
    if (cache_manager) self->send(cache_manager, loaded);
    if (scheduler) self->send(scheduler, loaded);
    if (options.on_load) options.on_load(loaded);
  }

  // Only a typed refusal is worth another try with this executor: else it is gone, and the next one will be
  // announced.
  void failed(pointer self, const caf::error& problem) {
    const bool refused = problem.category() == caf::atom("troupe");
    error e = from_caf(problem, "the executor ended while it loaded the model");
    e.text = fmt::format("model {}: {}", options.model->name, e.text);
    log::debug("host", "load failed", {{"model", options.model->name}, {"reason", e.text}});
    if (options.on_load && refused) options.on_load(fail(e));
    if (!refused) return;
    retry = turns;
    self->delayed_send(self, delay, tick_atom::value);
    delay = std::min(2 * delay, longest_delay);
  }

  void tick(pointer self) {
    if (std::exchange(retry, 0) == turns) load(self);
  }

  host_options options;
  std::string scheduler_id;
  message<wire::LoadModel> request;
  message<wire::ModelLoaded> loaded;  // empty: not loaded
  executor_actor executor;
  cache_manager_actor cache_manager;
  scheduler_actor scheduler;
  std::uint64_t turns = 0;  // loads asked for; an answer to an earlier one is stale
  std::uint64_t retry = 0;  // the turn that a tick repeats; 0 = none
  std::chrono::milliseconds delay = first_delay;
};

host_actor::behavior_type host(host_state::pointer self, host_options options) {
  auto& state = self->state;
  state.scheduler_id = fmt::format("scheduler/{}", options.model->id.value);
  state.options = std::move(options);
  state.choose();
  return {
      [self](peer_atom, const std::string& id, const caf::strong_actor_ptr& who) {
        self->state.meet(self, id, who);
      },
      [self](tick_atom) { self->state.tick(self); },
      [self](adopt_atom) { self->state.adopt(self); },
  };
}

}  // namespace

host_actor spawn_host(caf::actor_system& system, host_options options) {
  return system.spawn(host, std::move(options));
}

}  // namespace troupe
