#include "actors/executor/executor.hpp"

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>
#include <chrono>
#include <deque>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "actors/errors.hpp"
#include "actors/executor/loader.hpp"
#include "actors/executor/step_runner.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {

namespace {

using clock = std::chrono::steady_clock;

struct loaded_version {
  message<wire::LoadModel> request;
  message<wire::ModelLoaded> answer;
  compiled_ptr compiled;
};

struct loaded_model {
  std::map<std::uint32_t, loaded_version> versions;  // not empty
  std::uint32_t running = 0;                         // the one that the runner uses
  std::shared_ptr<step_runner> runner;

  void run_with(std::uint32_t version) {
    running = version;
    runner->use(versions.at(version).compiled->model);
  }
};

// A step that the device has, and who is to hear of it.
struct uncollected_step {
  std::shared_ptr<step_runner> runner;
  caf::strong_actor_ptr asker;
  std::uint64_t step = 0;
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
  std::deque<uncollected_step> uncollected;  // the oldest first
  bool looking = false;                      // a message to itself is on its way
  std::map<std::pair<std::uint32_t, std::uint32_t>, pending_load> pending;  // by model and version

  result<void> open_device();
  message<wire::ModelLoaded> install(const pending_load& load, const compiled_ptr& compiled);
};

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
  const std::uint32_t id = load.request->model(), version = load.request->version();
  const ops::model& model = *compiled->model;
  flatbuffers::FlatBufferBuilder builder;
  const auto answer = message<wire::ModelLoaded>::finish(
      builder, wire::CreateModelLoaded(builder, id, model.weight_bytes(), model.block_tokens(),
                                       options.backend.blocks, options.backend.block_bytes, ms, pool,
                                       model.state_bytes(), version, compiled->woken_bytes));
  log::info("executor", "model loaded",
            {{"model", load.request->name()->string_view()},
             {"version", version},
             {"weight_bytes", answer->weight_bytes()},
             {"block_tokens", answer->block_tokens()},
             {"state_bytes_per_sequence", answer->state_bytes()},
             {"state_bytes", answer->state_bytes() * options.max_sequences},
             {"woken_bytes", answer->woken_bytes()},
             {"ms", ms}});
  auto& at = models[id];
  at.versions[version] = {load.request, answer, compiled};
  if (at.runner) return answer;
  at.runner = std::make_shared<step_runner>(model_id{id}, compiled->model, compiled->vocabulary,
                                            options.max_sequences);
  at.running = version;
  return answer;
}

using result_sink = caf::typed_actor<caf::reacts_to<message<wire::StepResult>>>;
using executor_pointer = executor_actor::stateful_pointer<executor_state>;

// Ends the actor where the backend has failed.
bool tell(executor_pointer self, const caf::strong_actor_ptr& asker, std::uint64_t step,
          const result<message<wire::StepResult>>& done) {
  executor_state& state = self->state;
  if (!done) {
    log::error("executor", "step failed", {{"step", step}, {"error", done.error().text}});
    self->quit(to_caf(done.error()));
    return false;
  }
  if (state.options.trace) state.options.trace(hop::result_sent, step);
  if (auto sink = caf::actor_cast<result_sink>(asker)) self->send(sink, *done);
  return true;
}

// The oldest step on its way: waits for it, tells what came of it.
bool collect_one(executor_pointer self) {
  executor_state& state = self->state;
  const uncollected_step one = std::move(state.uncollected.front());
  state.uncollected.pop_front();
  return tell(self, one.asker, one.step, one.runner->collect());
}

bool collect_all(executor_pointer self) {
  while (!self->state.uncollected.empty())
    if (!collect_one(self)) return false;
  return true;
}

// While a step is on its way, the actor asks for it between its messages instead of waiting: the next plan comes as one of them, and
// the device should have it before it is done.
void look_for_results(executor_pointer self) {
  executor_state& state = self->state;
  while (!state.uncollected.empty() && state.uncollected.front().runner->ready())
    if (!collect_one(self)) return;
  state.looking = !state.uncollected.empty();
  if (!state.looking) return;
  std::this_thread::yield();
  self->send(self, tick_atom_v);
}

// The last references go to the loader: unmapping and freeing take time that steps should not wait for.
discard_order_ptr discarding(executor_pointer self, std::vector<std::shared_ptr<void>> what) {
  auto order = std::make_shared<discard_order>();
  order->backend = self->state.backend;
  order->what = std::move(what);
  return order;
}

void loaded(executor_pointer self, const message<wire::LoadModel>& request, const compiled_ptr& compiled) {
  executor_state& state = self->state;
  auto found = state.pending.find({request->model(), request->version()});
  if (found == state.pending.end() || found->second.request.get() != request.get()) {  // unloaded meanwhile
    caf::anon_send(state.loader, discarding(self, {compiled}));
    return;
  }
  pending_load load = std::move(found->second);
  state.pending.erase(found);
  const auto answer = state.install(load, compiled);
  for (load_promise& asker : load.askers) asker.deliver(answer);
}

void not_loaded(executor_pointer self, const message<wire::LoadModel>& request, const caf::error& problem) {
  auto& pending = self->state.pending;
  auto found = pending.find({request->model(), request->version()});
  if (found == pending.end() || found->second.request.get() != request.get()) return;
  const error e = from_caf(problem, self->system().render(problem));
  log::debug("executor", "model not loaded", {{"model", request->name()->string_view()}, {"error", e.text}});
  pending_load load = std::move(found->second);
  pending.erase(found);
  for (load_promise& asker : load.askers) asker.deliver(problem);
}

// Another checkpoint under the same number: what was loaded is of no use.
void forget_model(executor_pointer self, std::uint32_t id) {
  executor_state& state = self->state;
  auto found = state.models.find(id);
  if (found == state.models.end() || !collect_all(self)) return;
  std::vector<std::shared_ptr<void>> what = {std::move(found->second.runner)};
  for (auto& [number, v] : found->second.versions) what.push_back(std::move(v.compiled));
  state.models.erase(found);
  caf::anon_send(state.loader, discarding(self, std::move(what)));
}

caf::result<message<wire::ModelLoaded>> load(executor_pointer self, const message<wire::LoadModel>& request) {
  executor_state& state = self->state;
  const std::uint32_t id = request->model();
  auto order = std::make_shared<compile_order>(compile_order{request, nullptr, nullptr});
  if (auto known = state.models.find(id); known != state.models.end()) {
    auto& versions = known->second.versions;
    if (auto version = versions.find(request->version()); version != versions.end()) {
      if (same_model(*version->second.request, *request)) return version->second.answer;
      forget_model(self, id);
    } else if (const auto& other = versions.begin()->second;
               other.request->checkpoint()->string_view() == request->checkpoint()->string_view()) {
      order->files = other.compiled->files;
    }
  }
  if (auto open = state.open_device(); !open) return to_caf(open.error());
  order->backend = state.backend;
  auto promise = self->make_response_promise<message<wire::ModelLoaded>>();
  auto& load = state.pending[{id, request->version()}];
  load.askers.push_back(promise);
  if (load.request && same_model(*load.request, *request)) return promise;
  load.request = request;
  load.begun = clock::now();
  self->request(state.loader, caf::infinite, compile_order_ptr(order))
      .then([self, request](const compiled_ptr& compiled) { loaded(self, request, compiled); },
            [self, request](const caf::error& problem) { not_loaded(self, request, problem); });
  return promise;
}

// ---- unloading --------------------------------------------------------------------------------------------

std::uint64_t bytes_of(const executor_state& state, const loaded_version& v) {
  return v.answer->weight_bytes() + v.answer->state_bytes() * state.options.max_sequences;
}

void end_loads(executor_state& state, const wire::UnloadModel& gone) {
  const auto reason = to_caf({error_code::unavailable, "the model was unloaded while it was being loaded"});
  for (auto load = state.pending.begin(); load != state.pending.end();) {
    const auto& [model, version] = load->first;
    if (model != gone.model() ||
        (gone.version() >= 0 && static_cast<std::int64_t>(version) != gone.version())) {
      ++load;
      continue;
    }
    for (load_promise& asker : load->second.askers) asker.deliver(reason);
    load = state.pending.erase(load);
  }
}

// What of the model is to be destroyed. Its runner never keeps a version that goes: a step that is yet to come brings its own.
std::vector<std::shared_ptr<void>> take_out(executor_state& state, const wire::UnloadModel& gone,
                                            std::uint64_t& bytes) {
  std::vector<std::shared_ptr<void>> what;
  auto found = state.models.find(gone.model());
  if (found == state.models.end()) return what;
  loaded_model& at = found->second;
  const auto take = [&](loaded_version& v) {
    bytes += bytes_of(state, v);
    what.push_back(std::move(v.compiled));
  };
  if (gone.version() >= 0) {
    const auto version = at.versions.find(static_cast<std::uint32_t>(gone.version()));
    if (version == at.versions.end()) return what;
    take(version->second);
    const bool was_running = at.running == version->first;
    at.versions.erase(version);
    if (!at.versions.empty()) {
      if (was_running) at.run_with(at.versions.rbegin()->first);
      return what;
    }
  }
  for (auto& [number, v] : at.versions) take(v);
  what.push_back(std::move(at.runner));
  state.models.erase(found);
  return what;
}

using unload_promise = caf::typed_response_promise<message<wire::ModelUnloaded>>;

void answer_unload(unload_promise promise, const wire::ModelUnloadedT& found) {
  promise.deliver(message<wire::ModelUnloaded>::pack(found));
}

// The version that runs goes to sleep, what else there is of the model goes for good. Nothing loaded: what sleeps sleeps on.
void let_sleep(executor_pointer self, const wire::UnloadModel& wanted, unload_promise promise) {
  executor_state& state = self->state;
  wire::ModelUnloadedT found;
  found.model = wanted.model();
  const auto known = state.models.find(wanted.model());
  if (known == state.models.end()) return answer_unload(promise, found);
  loaded_version& running = known->second.versions.at(known->second.running);
  auto order = std::make_shared<rest_order>();
  order->request = running.request;
  order->compiled = running.compiled;
  const std::uint64_t running_bytes = bytes_of(state, running);
  order->others = take_out(state, wanted, found.freed_bytes);
  const auto then = [promise, found, running_bytes](const rest_outcome& outcome) {
    wire::ModelUnloadedT told = found;
    if (outcome.kept_bytes > 0) told.freed_bytes += outcome.freed_bytes - running_bytes;
    told.kept_bytes = outcome.kept_bytes;
    told.rest_ms = outcome.ms;
    told.not_kept = outcome.not_kept;
    answer_unload(promise, told);
  };
  self->request(state.loader, caf::infinite, std::move(order))
      .then([then](const rest_outcome_ptr& outcome) { then(*outcome); },
            [promise, found](const caf::error&) { answer_unload(promise, found); });
}

caf::result<message<wire::ModelUnloaded>> unload(executor_pointer self, const wire::UnloadModel& gone) {
  executor_state& state = self->state;
  end_loads(state, gone);
  if (!collect_all(self)) return to_caf({error_code::unavailable, "the device failed"});
  auto promise = self->make_response_promise<message<wire::ModelUnloaded>>();
  if (gone.keep_copy()) {
    let_sleep(self, gone, promise);
    return promise;
  }
  wire::ModelUnloadedT found;
  found.model = gone.model();
  auto order = discarding(self, take_out(state, gone, found.freed_bytes));
  order->asleep = versions_of{gone.model(), gone.version()};
  if (found.freed_bytes > 0)
    log::info("executor", "model unloaded", {{"model", gone.model()}, {"bytes", found.freed_bytes}});
  self->request(state.loader, caf::infinite, std::move(order))
      .then(
          [promise, found](std::uint64_t copies) {
            wire::ModelUnloadedT told = found;
            told.dropped_bytes = copies;
            answer_unload(promise, told);
          },
          [promise, found](const caf::error&) { answer_unload(promise, found); });
  return promise;
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
  if (plan->version() != found->second.running) {
    if (!found->second.versions.contains(plan->version())) {
      log::warning("executor", "plan for a version that is not loaded",
                   {{"model", plan->model()}, {"version", plan->version()}});
      return;
    }
    if (!collect_all(self)) return;  // by the version that computes them
    found->second.run_with(plan->version());
  }
  const std::shared_ptr<step_runner> runner = found->second.runner;
  const bool stale = plan->epoch() < state.newest_epoch;
  state.newest_epoch = std::max(state.newest_epoch, plan->epoch());
  const auto asker = self->current_sender();
  if (stale) {
    if (collect_all(self)) tell(self, asker, plan->step(), runner->empty_result(*plan));
    return;
  }
  if (!runner->overlaps()) {
    tell(self, asker, plan->step(), runner->run(*plan));
    return;
  }
  while (runner->uncollected() == 2)
    if (!collect_one(self)) return;
  if (auto taken = runner->enqueue(*plan); !taken) {
    tell(self, asker, plan->step(), fail(taken.error()));
    return;
  }
  state.uncollected.push_back({runner, asker, plan->step()});
  if (!std::exchange(state.looking, true)) self->send(self, tick_atom_v);
}

executor_actor::behavior_type executor(executor_pointer self, executor_options options) {
  self->state.options = std::move(options);
  self->state.pool =
      static_cast<std::uint64_t>(clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
  self->state.loader = spawn_loader(self->system(), self->state.options);
  self->link_to(self->state.loader);
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [self](const message<wire::LoadModel>& request) { return load(self, request); },
          [self](const message<wire::UnloadModel>& request) { return unload(self, *request); },
          [self](const message<wire::StepPlan>& plan) { run_plan(self, plan); },
          [self](tick_atom) { look_for_results(self); }};
}

}  // namespace

executor_actor spawn_executor(caf::actor_system& system, executor_options options) {
  if (options.detached) return system.spawn<caf::detached>(executor, std::move(options));
  return system.spawn(executor, std::move(options));
}

}  // namespace troupe
