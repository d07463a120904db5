// The pipeline: which actors a server runs, in which order, with which restart rule.
//
//   client -> gateway -> tokenizer -> scheduler -> cache_manager -> executor -> tokenizer -> gateway -> client
//
// Start goes down the list, from the model outward; stop goes up it: the gateway opens last and closes first, so that a stop
// drains. Every actor is announced to every other by its id, again after each restart; what each does at the
// restart of another stands in its header. While it runs, the deployer has the actors of further models started and stopped.
#include "actors/server/pipeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/send.hpp>
#include <utility>

#include "actors/cache_manager/cache_manager.hpp"
#include "actors/executor/executor.hpp"
#include "actors/gateway/gateway.hpp"
#include "actors/host/host.hpp"
#include "actors/scheduler/scheduler.hpp"
#include "actors/tokenizer/tokenizer_actor.hpp"
#include "kernel/base/text.hpp"
#include "kernel/supervision/supervisor.hpp"

namespace troupe {

namespace {

using supervision::child_spec;
using supervision::restart_rule;
using namespace std::chrono_literals;

// A child that is made anew from the same options at each start.
template <class Handle, class Options>
child_spec child(const std::string& id, Handle (*spawn)(caf::actor_system&, Options),
                 std::decay_t<Options> options) {
  return {.id = id,
          .spawn =
              [spawn, options = std::move(options)](caf::actor_system& system) {
                return caf::actor_cast<caf::strong_actor_ptr>(spawn(system, options));
              },
          .restart = restart_rule::always,
          .at_most = 10,
          .within = 60s,
          .stop_grace = 5s};
}

// The outcome of each load goes to whoever waits for the start, and to the deployer, who knows whether it waits for it.
host_options host_of(const prepared_model_ptr& model, const pipeline_parts& parts) {
  return {.model = model,
          .newest =
              [model, catalogue = parts.catalogue] {
                return catalogue->version_of(model->id).value_or(versioned_model{model, 0});
              },
          .on_load =
              [id = model->id, on_load = parts.on_load, actors = parts.actors](const auto& outcome) {
                if (on_load) on_load(id, outcome ? result<void>{} : fail(outcome.error()));
                const auto deployer = caf::actor_cast<deployer_actor>(actors->find("deployer"));
                if (!deployer) return;
                if (outcome)
                  caf::anon_send(deployer, loaded_atom::value, *outcome);
                else
                  caf::anon_send(deployer, loaded_atom::value, id.value,
                                 static_cast<std::uint16_t>(outcome.error().code), outcome.error().text);
              }};
}

struct pool_size {
  std::uint32_t blocks = 0;
  std::uint64_t block_bytes = 0;
};

// Blocks that suit the model whose tokens take most; backends keep keys and values as f32.
pool_size pool_of(const pipeline_parts& parts) {
  std::uint64_t token_bytes = 0;
  for (const auto& model : parts.models)
    token_bytes = std::max(token_bytes, program::kv_bytes_per_token(*model->program, sizeof(float)));
  const auto& cache = parts.config.cache;
  const auto block_bytes = cache.block_for(token_bytes);
  return {static_cast<std::uint32_t>(cache.memory.bytes / block_bytes), block_bytes};
}

executor_options executor_of(const pipeline_parts& parts) {
  const auto pool = pool_of(parts);
  executor_options options;
  options.backend.threads = parts.config.device.threads;
  options.backend.blocks = pool.blocks;
  options.backend.block_bytes = pool.block_bytes;
  options.open_backend = [backend = parts.backend](const ops::backend_options& wanted) {
    return backend->open(wanted);
  };
  options.int8 = parts.config.device.weights == "int8";
  options.show_progress = parts.show_progress;
  options.max_sequences = parts.config.scheduler.max_sequences;
  options.step_tokens = parts.config.scheduler.step_tokens;
  return options;
}

cache_manager_options cache_manager_of(const pipeline_parts& parts) {
  const auto pool = pool_of(parts);
  return {.blocks = pool.blocks,
          .block_bytes = pool.block_bytes,
          .prefix_caching = parts.config.cache.prefix_cache};
}

scheduler_options scheduler_of(const prepared_model_ptr& model, const pipeline_parts& parts) {
  const auto& wanted = parts.config.scheduler;
  scheduler_options options;
  options.planner.model = model->id;
  options.planner.max_sequences = wanted.max_sequences;
  options.planner.step_tokens = wanted.step_tokens;
  options.planner.queue_limit = wanted.queue_limit;
  return options;
}

tokenizer_options tokenizer_of(const prepared_model_ptr& model, std::uint32_t worker) {
  return {.model = model, .worker = worker};
}

// The pool's blocks were cut for the models of the start.
result<deployment::staged> fitting(result<deployment::staged> found, std::uint64_t block_bytes) {
  if (!found) return found;
  const auto token_bytes = program::kv_bytes_per_token(*found->model->program, sizeof(float));
  if (token_bytes > block_bytes)
    return fail(
        error_code::no_room,
        "model {}: one token takes {} of keys and values, but a cache block has {}: restart the server "
        "with a larger cache.block, or with this model in its configuration",
        found->model->name, human_bytes(token_bytes), human_bytes(block_bytes));
  return found;
}

std::vector<gateway::restart_count> restarts_of(const supervision::roster& actors) {
  std::vector<gateway::restart_count> counts;
  for (auto& entry : actors.entries())
    if (entry.restarts > 0) counts.push_back({entry.id, entry.restarts, entry.last_reason});
  return counts;
}

gateway_options gateway_of(const pipeline_parts& parts) {
  gateway_options options;
  options.door = parts.door;
  options.models = parts.catalogue;
  options.find_peer = [actors = parts.actors](const std::string& id) { return actors->find(id); };
  options.takes_operations = std::ranges::all_of(parts.config.server.listen, config::is_local_endpoint);
  options.server = fmt::format("troupe {}", TROUPE_VERSION);
  options.restarts = [actors = parts.actors] { return restarts_of(*actors); };
  return options;
}

// ---- instances that come and go ---------------------------------------------------------------------------

std::string host_id(const prepared_model& m) {
  return fmt::format("host/{}", m.id.value);
}
std::string scheduler_id(const prepared_model& m) {
  return fmt::format("scheduler/{}", m.id.value);
}
std::string tokenizer_id(const prepared_model& m, std::uint32_t worker) {
  return fmt::format("tokenizer/{}/{}", m.id.value, worker);
}

// From the model outward, in front of the deployer.
void start_instance(const pipeline_parts& parts, const prepared_model_ptr& model) {
  std::vector<child_spec> list;
  list.push_back(child(host_id(*model), spawn_host, host_of(model, parts)));
  list.push_back(child(scheduler_id(*model), spawn_scheduler, scheduler_of(model, parts)));
  for (std::uint32_t worker = 0; worker < parts.config.tokenizer.workers; ++worker)
    list.push_back(child(tokenizer_id(*model, worker), spawn_tokenizer, tokenizer_of(model, worker)));
  supervision::add_children(parts.actors->supervisor(), std::move(list), "deployer");
}

void stop_engine(const pipeline_parts& parts, const prepared_model_ptr& model, std::function<void()> gone) {
  supervision::remove_children(parts.actors->supervisor(), {scheduler_id(*model), host_id(*model)},
                               std::move(gone));
}

void stop_instance(const pipeline_parts& parts, const prepared_model_ptr& model, std::function<void()> gone) {
  std::vector<std::string> ids;
  for (std::uint32_t worker = parts.config.tokenizer.workers; worker-- > 0;)
    ids.push_back(tokenizer_id(*model, worker));
  ids.push_back(scheduler_id(*model));
  ids.push_back(host_id(*model));
  supervision::remove_children(parts.actors->supervisor(), std::move(ids), std::move(gone));
}

deployer_options deployer_of(const pipeline_parts& parts) {
  deployer_options options;
  options.book = parts.book;
  options.jobs = parts.jobs;
  options.catalogue = parts.catalogue;
  options.stage = parts.stage;
  options.prepare = [prepare = parts.prepare, block_bytes = pool_of(parts).block_bytes](
                        const model_request& wanted) { return fitting(prepare(wanted), block_bytes); };
  options.prepare_candidate = [prepare = parts.prepare_candidate, block_bytes = pool_of(parts).block_bytes](
                                  const deployment::candidate_request& wanted) {
    return fitting(prepare(wanted), block_bytes);
  };
  options.find_peer = [actors = parts.actors](const std::string& id) { return actors->find(id); };
  options.start_instance = [&parts](const prepared_model_ptr& model) { start_instance(parts, model); };
  options.stop_instance = [&parts](const prepared_model_ptr& model, std::function<void()> gone) {
    stop_instance(parts, model, std::move(gone));
  };
  options.stop_engine = [&parts](const prepared_model_ptr& model, std::function<void()> gone) {
    stop_engine(parts, model, std::move(gone));
  };
  options.workers = parts.config.tokenizer.workers;
  options.after_operation = parts.after_operation;
  return options;
}

}  // namespace

std::vector<child_spec> make_pipeline(const pipeline_parts& parts) {
  std::vector<child_spec> list;
  for (const auto& model : parts.models)
    list.push_back(child(host_id(*model), spawn_host, host_of(model, parts)));
  list.push_back(child("executor", spawn_executor, executor_of(parts)));
  list.push_back(child("cache_manager", spawn_cache_manager, cache_manager_of(parts)));
  for (const auto& model : parts.models)
    list.push_back(child(scheduler_id(*model), spawn_scheduler, scheduler_of(model, parts)));
  for (const auto& model : parts.models)
    for (std::uint32_t worker = 0; worker < parts.config.tokenizer.workers; ++worker)
      list.push_back(child(tokenizer_id(*model, worker), spawn_tokenizer, tokenizer_of(model, worker)));
  list.push_back(child("deployer", spawn_deployer, deployer_of(parts)));
  list.push_back(child("gateway", spawn_gateway, gateway_of(parts)));
  return list;
}

}  // namespace troupe
