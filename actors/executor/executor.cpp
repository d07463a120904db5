#include "actors/executor/executor.hpp"

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "actors/errors.hpp"
#include "actors/executor/step_runner.hpp"
#include "kernel/program/native_ops.hpp"
#include "kernel/telemetry/log.hpp"
#include "kernel/telemetry/progress.hpp"

namespace troupe {

namespace {

using clock = std::chrono::steady_clock;

struct loaded_model {
  message<wire::LoadModel> request;
  message<wire::ModelLoaded> answer;
  std::shared_ptr<step_runner> runner;
};

// A step that the device has, and who is to hear of it.
struct uncollected_step {
  std::shared_ptr<step_runner> runner;
  caf::strong_actor_ptr asker;
  std::uint64_t step = 0;
};

struct executor_state {
  static inline const char* name = "executor";
  executor_options options;
  std::uint64_t pool = 0;
  std::uint64_t newest_epoch = 0;
  std::shared_ptr<ops::backend> backend;  // outlives the models
  std::map<std::uint32_t, loaded_model> models;
  std::deque<uncollected_step> uncollected;  // the oldest first
  bool looking = false;                      // a message to itself is on its way

  result<message<wire::ModelLoaded>> load(const message<wire::LoadModel>& request);
  result<std::unique_ptr<ops::model>> compile(const wire::LoadModel& request,
                                              const program::verified_program& program);
  result<program::native_ops> open_native_ops(const wire::LoadModel& request,
                                              const program::Program& program);
};

bool same(const wire::LoadModel& a, const wire::LoadModel& b) {
  const auto module_of = [](const wire::LoadModel& m) {
    return m.module_() == nullptr ? std::string_view() : m.module_()->string_view();
  };
  return a.checkpoint()->string_view() == b.checkpoint()->string_view() && module_of(a) == module_of(b) &&
         std::ranges::equal(*a.program(), *b.program());
}

// The only code of a module that runs in this process for longer than a build.
result<program::native_ops> executor_state::open_native_ops(const wire::LoadModel& request,
                                                            const program::Program& program) {
  if (!program::has_native_ops(program)) return program::native_ops();
  if (request.module_() == nullptr)
    return fail(error_code::bad_program, "model {}: its Program uses native ops, but no module came with it",
                request.name()->string_view());
  const std::filesystem::path copy = request.module_()->str();
  return options.open_native_ops ? options.open_native_ops(copy) : modules::open_native_ops(copy);
}

result<std::unique_ptr<ops::model>> executor_state::compile(const wire::LoadModel& request,
                                                            const program::verified_program& program) {
  if (backend == nullptr) {
    auto opened = options.open_backend(options.backend);
    if (!opened) return fail(opened.error());
    backend = std::move(*opened);
    const ops::device_info info = backend->info();
    log::info("executor", "device opened", {{"name", info.name}, {"detail", info.detail}, {"pool", pool}});
  }
  const std::filesystem::path folder = request.checkpoint()->str();
  auto native = open_native_ops(request, *program);
  if (!native) return fail(native.error());
  auto files = options.open_weights ? options.open_weights(folder) : checkpoint::weights::open(folder);
  if (!files) return fail(files.error());
  ops::load_options how;
  how.native_ops = std::move(*native);
  how.state_slots = options.max_sequences;
  how.step_tokens = options.step_tokens;
  how.int8 = options.int8;
  how.tell = [&request](std::string_view text) {
    log::info("executor", "loading", {{"model", request.name()->string_view()}, {"what", text}});
  };
  std::optional<telemetry::progress> line;
  if (options.show_progress) {
    line.emplace("loading " + request.name()->str());
    how.progress = [&line](std::uint64_t done, std::uint64_t total) { line->update(done, total); };
  }
  auto compiled = backend->load(program, *files, how);
  if (line) line->finish();
  return compiled;
}

result<message<wire::ModelLoaded>> executor_state::load(const message<wire::LoadModel>& request) {
  const auto start = clock::now();
  if (auto known = models.find(request->model()); known != models.end()) {
    if (same(*known->second.request, *request)) return known->second.answer;
    models.erase(known);
  }
  auto program = program::verify({request->program()->data(), request->program()->size()});
  if (!program) return fail(program.error());
  auto compiled = compile(*request, *program);
  if (!compiled) return fail(compiled.error());

  const double ms = std::chrono::duration<double, std::milli>(clock::now() - start).count();
  flatbuffers::FlatBufferBuilder builder;
  const auto answer = message<wire::ModelLoaded>::finish(
      builder, wire::CreateModelLoaded(builder, request->model(), (*compiled)->weight_bytes(),
                                       (*compiled)->block_tokens(), options.backend.blocks,
                                       options.backend.block_bytes, ms, pool, (*compiled)->state_bytes()));
  log::info("executor", "model loaded",
            {{"model", request->name()->string_view()},
             {"weight_bytes", answer->weight_bytes()},
             {"block_tokens", answer->block_tokens()},
             {"state_bytes_per_sequence", answer->state_bytes()},
             {"state_bytes", answer->state_bytes() * options.max_sequences},
             {"ms", ms}});
  models[request->model()] = {
      request, answer,
      std::make_shared<step_runner>(model_id{request->model()}, std::move(*compiled),
                                    (*program)->facts()->vocabulary(), options.max_sequences)};
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

void run_plan(executor_pointer self, const message<wire::StepPlan>& plan) {
  executor_state& state = self->state;
  if (state.options.trace) state.options.trace(hop::plan_taken, plan->step());
  auto found = state.models.find(plan->model());
  if (found == state.models.end() || plan->pool() != state.pool) {
    log::debug("executor", "plan dropped",
               {{"model", plan->model()}, {"step", plan->step()}, {"pool", plan->pool()}});
    return;
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
  return {[](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
          [self](const message<wire::LoadModel>& request) -> caf::result<message<wire::ModelLoaded>> {
            auto loaded = self->state.load(request);
            if (loaded) return *loaded;
            log::debug("executor", "model not loaded",
                       {{"model", request->name()->string_view()}, {"error", loaded.error().text}});
            return to_caf(loaded.error());
          },
          [self](const message<wire::StepPlan>& plan) { run_plan(self, plan); },
          [self](tick_atom) { look_for_results(self); }};
}

}  // namespace

executor_actor spawn_executor(caf::actor_system& system, executor_options options) {
  if (options.detached) return system.spawn<caf::detached>(executor, std::move(options));
  return system.spawn(executor, std::move(options));
}

}  // namespace troupe
