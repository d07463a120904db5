#include "actors/executor/executor.hpp"

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>
#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include "actors/errors.hpp"
#include "actors/executor/loader.hpp"
#include "actors/executor/step_runner.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {

namespace {

using clock = std::chrono::steady_clock;

struct loaded_model {
  message<wire::LoadModel> request;
  message<wire::ModelLoaded> answer;
  std::unique_ptr<step_runner> runner;
};

using load_promise = caf::typed_response_promise<message<wire::ModelLoaded>>;

// A load that the loader works on, and who waits for it.
struct pending_load {
  message<wire::LoadModel> request;
  clock::time_point begun;
  std::vector<load_promise> askers;
};

struct executor_state {
  static inline const char* name = "executor";
  executor_options options;
  std::uint64_t pool = 0;
  std::uint64_t newest_epoch = 0;
  std::shared_ptr<ops::backend> backend;  // outlives the models
  loader_actor loader;
  std::map<std::uint32_t, loaded_model> models;
  std::map<std::uint32_t, pending_load> pending;

  result<void> open_device();
  message<wire::ModelLoaded> install(const pending_load& load, const compiled_ptr& compiled);
};

bool same(const wire::LoadModel& a, const wire::LoadModel& b) {
  const auto module_of = [](const wire::LoadModel& m) {
    return m.module_() == nullptr ? std::string_view() : m.module_()->string_view();
  };
  return a.checkpoint()->string_view() == b.checkpoint()->string_view() && module_of(a) == module_of(b) &&
         std::ranges::equal(*a.program(), *b.program());
}

result<void> executor_state::open_device() {
  if (backend != nullptr) return {};
  auto opened = options.open_backend(options.backend);
  if (!opened) return fail(opened.error());
  backend = std::move(*opened);
  const ops::device_info info = backend->info();
  log::info("executor", "device opened", {{"name", info.name}, {"detail", info.detail}, {"pool", pool}});
  return {};
}

message<wire::ModelLoaded> executor_state::install(const pending_load& load, const compiled_ptr& compiled) {
  const double ms = std::chrono::duration<double, std::milli>(clock::now() - load.begun).count();
  const std::uint32_t id = load.request->model();
  const ops::model& model = *compiled->model;
  flatbuffers::FlatBufferBuilder builder;
  const auto answer = message<wire::ModelLoaded>::finish(
      builder,
      wire::CreateModelLoaded(builder, id, model.weight_bytes(), model.block_tokens(), options.backend.blocks,
                              options.backend.block_bytes, ms, pool, model.state_bytes()));
  log::info("executor", "model loaded",
            {{"model", load.request->name()->string_view()},
             {"weight_bytes", answer->weight_bytes()},
             {"block_tokens", answer->block_tokens()},
             {"state_bytes_per_sequence", answer->state_bytes()},
             {"state_bytes", answer->state_bytes() * options.max_sequences},
             {"ms", ms}});
  models[id] = {load.request, answer,
                std::make_unique<step_runner>(model_id{id}, std::move(compiled->model), compiled->vocabulary,
                                              options.max_sequences)};
  return answer;
}

using result_sink = caf::typed_actor<caf::reacts_to<message<wire::StepResult>>>;
using executor_pointer = executor_actor::stateful_pointer<executor_state>;

// The last reference goes to the loader: unmapping and freeing take time that steps should not wait for.
template <class T>
void discard(executor_pointer self, std::shared_ptr<T> what) {
  auto order = std::make_shared<discard_order>();
  order->backend = self->state.backend;
  order->what = std::move(what);
  self->send(self->state.loader, discard_order_ptr(std::move(order)));
}

void loaded(executor_pointer self, std::uint32_t id, const message<wire::LoadModel>& request,
            const compiled_ptr& compiled) {
  executor_state& state = self->state;
  auto found = state.pending.find(id);
  if (found == state.pending.end() || found->second.request.get() != request.get())
    return discard(self, compiled);  // unloaded meanwhile
  pending_load load = std::move(found->second);
  state.pending.erase(found);
  const auto answer = state.install(load, compiled);
  for (load_promise& asker : load.askers) asker.deliver(answer);
}

void not_loaded(executor_pointer self, std::uint32_t id, const message<wire::LoadModel>& request,
                const caf::error& problem) {
  auto& pending = self->state.pending;
  auto found = pending.find(id);
  if (found == pending.end() || found->second.request.get() != request.get()) return;
  const error e = from_caf(problem, self->system().render(problem));
  log::debug("executor", "model not loaded", {{"model", request->name()->string_view()}, {"error", e.text}});
  pending_load load = std::move(found->second);
  pending.erase(found);
  for (load_promise& asker : load.askers) asker.deliver(problem);
}

caf::result<message<wire::ModelLoaded>> load(executor_pointer self, const message<wire::LoadModel>& request) {
  executor_state& state = self->state;
  const std::uint32_t id = request->model();
  if (auto known = state.models.find(id); known != state.models.end()) {
    if (same(*known->second.request, *request)) return known->second.answer;
    discard(self, std::shared_ptr<step_runner>(std::move(known->second.runner)));
    state.models.erase(known);
  }
  if (auto open = state.open_device(); !open) return to_caf(open.error());
  auto promise = self->make_response_promise<message<wire::ModelLoaded>>();
  auto& load = state.pending[id];
  load.askers.push_back(promise);
  if (load.request && same(*load.request, *request)) return promise;
  load.request = request;
  load.begun = clock::now();
  const auto order = std::make_shared<const compile_order>(compile_order{request, state.backend});
  self->request(state.loader, caf::infinite, compile_order_ptr(order))
      .then([self, id, request](const compiled_ptr& compiled) { loaded(self, id, request, compiled); },
            [self, id, request](const caf::error& problem) { not_loaded(self, id, request, problem); });
  return promise;
}

message<wire::ModelUnloaded> unload(executor_pointer self, std::uint32_t id) {
  executor_state& state = self->state;
  if (auto load = state.pending.find(id); load != state.pending.end()) {
    const auto gone = to_caf({error_code::unavailable, "the model was unloaded while it was being loaded"});
    for (load_promise& asker : load->second.askers) asker.deliver(gone);
    state.pending.erase(load);
  }
  std::uint64_t freed = 0;
  if (auto known = state.models.find(id); known != state.models.end()) {
    freed = known->second.answer->weight_bytes() +
            known->second.answer->state_bytes() * state.options.max_sequences;
    log::info("executor", "model unloaded",
              {{"model", known->second.request->name()->string_view()}, {"bytes", freed}});
    discard(self, std::shared_ptr<step_runner>(std::move(known->second.runner)));
    state.models.erase(known);
  }
  flatbuffers::FlatBufferBuilder builder(64);
  return message<wire::ModelUnloaded>::finish(builder, wire::CreateModelUnloaded(builder, id, freed));
}

void run_plan(executor_pointer self, const message<wire::StepPlan>& plan) {
  executor_state& state = self->state;
  if (state.options.trace) state.options.trace(hop::plan_taken, plan->step());
  auto found = state.models.find(plan->model());
  if (found == state.models.end() || plan->pool() != state.pool) {
    log::debug("executor", "plan dropped",
               {{"model", plan->model()}, {"step", plan->step()}, {"pool", plan->pool()}});
    return;
  }
  step_runner& runner = *found->second.runner;
  const bool stale = plan->epoch() < state.newest_epoch;
  state.newest_epoch = std::max(state.newest_epoch, plan->epoch());
  auto done = stale ? runner.empty_result(*plan) : runner.run(*plan);
  if (!done) {
    log::error("executor", "step failed",
               {{"model", plan->model()}, {"step", plan->step()}, {"error", done.error().text}});
    self->quit(to_caf(done.error()));
    return;
  }
  if (state.options.trace) state.options.trace(hop::result_sent, plan->step());
  if (auto asker = caf::actor_cast<result_sink>(self->current_sender())) self->send(asker, *done);
}

executor_actor::behavior_type executor(executor_pointer self, executor_options options) {
  self->state.options = std::move(options);
  self->state.pool =
      static_cast<std::uint64_t>(clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
  self->state.loader = spawn_loader(self->system(), self->state.options);
  self->link_to(self->state.loader);
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [self](const message<wire::LoadModel>& request) { return load(self, request); },
          [self](const message<wire::UnloadModel>& request) { return unload(self, request->model()); },
          [self](const message<wire::StepPlan>& plan) { run_plan(self, plan); }};
}

}  // namespace

executor_actor spawn_executor(caf::actor_system& system, executor_options options) {
  if (options.detached) return system.spawn<caf::detached>(executor, std::move(options));
  return system.spawn(executor, std::move(options));
}

}  // namespace troupe
