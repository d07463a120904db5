#include "actors/server/server.hpp"

#include <fmt/format.h>

#include <atomic>
#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "actors/server/candidates.hpp"
#include "actors/server/live_models.hpp"
#include "actors/server/pipeline.hpp"
#include "actors/server/start_gate.hpp"
#include "actors/types.hpp"
#include "kernel/supervision/supervisor.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {

namespace {

namespace fs = std::filesystem;

constexpr auto drain_slack = std::chrono::seconds(3);
constexpr std::size_t framework_threads = 2;  // for actors without a thread of their own; they never block

// Everything is set here: the framework's own reading of arguments and files stays out.
struct actor_config : caf::actor_system_config {
  actor_config() {
    add_message_types<caf::id_block::troupe>();
    // No idle spinning, and the shorter tail beside detached actors.
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", framework_threads);
  }
};

void announce(const caf::strong_actor_ptr& to, const std::string& id, const caf::strong_actor_ptr& who) {
  caf::anon_send(caf::actor_cast<caf::actor>(to), peer_atom::value, id, who);
}

struct loaded_modules {
  modules::store store;
  modules::registry known;
  std::vector<error> skipped;
};

std::shared_ptr<backend_choice> choose_backend(const std::string& wanted,
                                               const config::install_paths& paths) {
  if (wanted != "auto") return std::make_shared<backend_choice>(std::vector{paths.backend(wanted)});
  return std::make_shared<backend_choice>(std::vector{paths.backend("cuda"), paths.backend("cpu")});
}

// A bad file in a module folder costs that module only: a model that needs it will say so.
result<loaded_modules> load_modules(const config::modules_section& wanted,
                                    const config::install_paths& paths) {
  auto trusted =
      modules::load_trust(paths.modules, wanted.trusted.empty() ? paths.trusted_modules : wanted.trusted);
  if (!trusted) return fail(std::move(trusted.error()));
  auto store = modules::store::open(wanted.store.empty() ? paths.module_store : wanted.store,
                                    {.trusted = std::move(*trusted)});
  if (!store) return fail(std::move(store.error()));
  auto folders = wanted.folders;
  if (folders.empty()) folders.push_back(paths.modules);
  loaded_modules made{std::move(*store), {}, {}};
  for (const fs::path& folder : folders) {
    if (std::error_code ignored; !fs::is_directory(folder, ignored))
      return fail(error_code::not_found, "module folder {} does not exist", folder.string());
    for (error& problem : made.known.add_folder(made.store, folder)) {
      log::warning("server", "module skipped", {{"reason", problem.text}});
      made.skipped.push_back(std::move(problem));
    }
  }
  return made;
}

// What was swapped and promoted comes back with the module that it was promoted with; else the installed one serves.
result<prepared_model_ptr> prepare(const model_request& wanted, const loaded_modules& modules,
                                   const deployment::version* intended) {
  if (intended == nullptr || !intended->own_module) return prepare_model(wanted, modules.known);
  auto module = staged_module(modules.known, modules.store, intended->module_sha256);
  if (!module) return fail(module.error().code, "model {}: {}", wanted.name, module.error().text);
  modules::registry only;
  only.add(std::move(*module));
  return prepare_model(wanted, only);
}

result<std::vector<prepared_model_ptr>> prepare_models(const std::vector<config::model_section>& wanted,
                                                       const loaded_modules& modules,
                                                       deployment::book& book) {
  std::vector<prepared_model_ptr> made;
  for (const auto& model : wanted) {
    const model_id id{static_cast<std::uint32_t>(made.size())};
    const auto name = config::name_of(model);
    auto prepared = prepare({id, name, model.path, model.max_context}, modules, book.intended_of(name));
    if (!prepared) return fail(std::move(prepared.error()));
    book.learn_module(name, (*prepared)->module->sha256());
    log::info("server", "model prepared",
              {{"model", (*prepared)->name},
               {"module", (*prepared)->module->name()},
               {"path", model.path.string()}});
    made.push_back(std::move(*prepared));
  }
  return made;
}

// An architecture that nobody serves may be that of a module which could not be loaded.
error with_skipped(error problem, const std::vector<error>& skipped) {
  if (problem.code != error_code::unknown_architecture) return problem;
  for (const error& e : skipped) problem.text += fmt::format("; not loaded: {}", e.text);
  return problem;
}

error stopped_early() {
  return {error_code::shutting_down, "stopped before all models were ready"};
}

result<std::shared_ptr<gateway::zmq_door>> open_door(const config::configuration& wanted) {
  gateway::door_options options;
  options.endpoints = wanted.server.listen;
  options.max_request_bytes = wanted.limits.request.bytes;
  options.outbox_messages = wanted.limits.outbox_messages;
  options.limits.open_requests_per_client = wanted.limits.open_requests_per_client;
  return gateway::open_zmq_door(options);
}

}  // namespace

// In the order of their making; the door outlives the actors, which may still send through it.
struct server::parts {
  parts(std::size_t models, loaded_modules found) : modules(std::move(found)), gate(models) {}
  ~parts() { stop(); }

  void run(server_options& options) {
    supervision::supervisor_options how;
    how.children = make_pipeline(pipeline);
    how.announce = announce;
    how.seen = pipeline.actors;
    how.gave_up = [this, tell = options.gave_up](const std::string& why) {
      gate.fail_with({error_code::internal, why});
      if (tell) tell(why);
    };
    root = supervision::spawn_supervisor(system, std::move(how));
  }

  // Waits until the supervisor has stopped everything. No actor is left in a scope when the framework waits for the last one.
  void stop() {
    if (!root || std::exchange(stopped, true)) return;
    {
      caf::scoped_actor self{system};
      self->monitor(root);
      stop_root();
      self->receive([](const caf::down_msg&) {});
    }
    for (auto& child : pipeline.actors->entries())
      if (pipeline.actors->find(child.id)) stuck = true;
    pipeline.door->close();
  }

  void stop_root() const { supervision::stop(caf::actor_cast<caf::strong_actor_ptr>(root)); }

  // True = everything that was open has finished. The gateway keeps the deadline; one that does not is not waited for.
  bool drain(std::chrono::milliseconds deadline) {
    const auto gateway = caf::actor_cast<gateway_actor>(pipeline.actors->find("gateway"));
    if (!gateway) return false;
    caf::scoped_actor self{system};
    self->monitor(gateway);
    self->monitor(root);
    // Sent, not requested: an actor that dies takes the answers that it still owed with it, in silence, but its monitors hear.
    self->send(gateway, drain_atom::value, static_cast<std::uint64_t>(deadline.count()));
    bool in_time = false;
    self->receive([&](bool answer) { in_time = answer; }, [](const caf::down_msg&) {},
                  caf::after(deadline + drain_slack) >>
                      [] { log::warning("server", "the gateway does not drain; stopping without it"); });
    return in_time;
  }

  // What the deployer works with.
  void prepare_operations(const config::install_paths& paths) {
    std::vector<deployment::served_model> served;
    for (const auto& model : pipeline.models) {
      const auto* intended = live->book()->intended_of(model->name);
      served.push_back({.model = model,
                        .workers = pipeline.config.tokenizer.workers,
                        .generation = live->book()->generation_of(model->name),
                        .pinned = intended != nullptr && intended->pinned});
    }
    pipeline.catalogue = std::make_shared<deployment::catalogue>(std::move(served));
    pipeline.book = live->book();
    pipeline.jobs = std::make_shared<deployment::jobs>();
    pipeline.stage = stage_model;
    pipeline.prepare = [this](const model_request& wanted) { return stage_program(wanted, modules.known); };
    candidates.emplace(modules.known, modules.store, paths.backend("cpu"), pipeline.backend,
                       pipeline.config.device.weights == "int8");
    pipeline.prepare_candidate = [this](const deployment::candidate_request& wanted) {
      return candidates->make(wanted);
    };
    pipeline.after_operation = [this] { live->compact(); };
  }

  std::unique_ptr<live_models> live;
  loaded_modules modules;
  std::optional<candidate_maker> candidates;
  pipeline_parts pipeline;
  start_gate gate;
  actor_config config;
  caf::actor_system system{config};
  caf::actor root;  // set before any other thread can ask for it
  bool stopped = false;
  std::atomic<bool> stuck{false};
};

result<std::unique_ptr<server>> server::start(server_options options) {
  auto& wanted = options.config;
  if (wanted.models.empty()) wanted.models.push_back({.path = options.paths.demo_model});
  if (auto valid = config::check(wanted); !valid) return fail(std::move(valid.error()));
  auto modules = load_modules(wanted.modules, options.paths);
  if (!modules) return fail(std::move(modules.error()));
  if (options.stop.stop_requested()) return fail(stopped_early());
  auto live = live_models::open(wanted);
  if (!live) return fail(std::move(live.error()));
  auto models = prepare_models((*live)->intended(wanted), *modules, *(*live)->book());
  if (!models) return fail(with_skipped(std::move(models.error()), modules->skipped));
  if (options.stop.stop_requested()) return fail(stopped_early());
  auto door = open_door(wanted);
  if (!door) return fail(std::move(door.error()));

  auto made = std::make_unique<parts>(models->size(), std::move(*modules));
  made->live = std::move(*live);
  auto& pipeline = made->pipeline;
  pipeline.config = wanted;
  pipeline.models = std::move(*models);
  pipeline.backend = choose_backend(wanted.device.backend, options.paths);
  made->prepare_operations(options.paths);
  pipeline.door = std::move(*door);
  pipeline.actors = std::make_shared<supervision::roster>();
  pipeline.show_progress = options.show_progress;
  pipeline.on_load = [&gate = made->gate](model_id model, const result<void>& outcome) {
    if (outcome) return gate.loaded(model);
    if (!gate.fail_with(outcome.error()))
      log::error("server", "model not loaded", {{"reason", outcome.error().text}});
  };
  made->run(options);
  const std::stop_callback give_up(options.stop, [&] { made->gate.fail_with(stopped_early()); });
  if (auto ready = made->gate.wait(); !ready) return fail(std::move(ready.error()));
  return std::unique_ptr<server>(new server(std::move(made)));
}

server::server(std::unique_ptr<parts> p) : parts_(std::move(p)) {}
server::~server() = default;

bool server::drain_and_stop(std::chrono::milliseconds deadline) {
  const bool in_time = parts_->drain(deadline);
  parts_->stop();
  return in_time;
}

void server::stop_now() {
  supervision::stop(caf::actor_cast<caf::strong_actor_ptr>(parts_->root));
}

bool server::is_stuck() const {
  return parts_->stuck;
}

void server::close_endpoints() {
  parts_->pipeline.door->close();
}

const std::vector<std::string>& server::endpoints() const {
  return parts_->pipeline.door->endpoints();
}
const std::vector<prepared_model_ptr>& server::models() const {
  return parts_->pipeline.models;
}
const std::vector<error>& server::skipped_modules() const {
  return parts_->modules.skipped;
}
const supervision::roster& server::actors() const {
  return *parts_->pipeline.actors;
}

}  // namespace troupe
