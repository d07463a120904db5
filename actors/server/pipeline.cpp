// The pipeline: which actors a server runs, in which order, with which restart rule.
//
//   client -> gateway -> tokenizer -> scheduler -> cache_manager -> executor -> tokenizer -> gateway -> client
//
// Start goes down the list, from the model outward; stop goes up it: the gateway opens last and closes first, so that a stop
// drains. Every actor is announced to every other by its id, again after each restart; what each does at the
// restart of another stands in its header.
#include "actors/server/pipeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <memory>
#include <utility>

#include "actors/cache_manager/cache_manager.hpp"
#include "actors/executor/executor.hpp"
#include "actors/gateway/gateway.hpp"
#include "actors/host/host.hpp"
#include "actors/scheduler/scheduler.hpp"
#include "actors/tokenizer/tokenizer_actor.hpp"
#include "kernel/telemetry/log.hpp"
#include "ops/device/open_backend.hpp"

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

host_options host_of(const prepared_model_ptr& model, const pipeline_parts& parts) {
  return {.model = model, .on_load = [id = model->id, on_load = parts.on_load](const auto& outcome) {
            if (on_load) on_load(id, outcome ? result<void>{} : fail(outcome.error()));
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

// The first library that can be opened; the log says why one is passed over. From then on it is that one: an executor that is started
// again, because its device failed, does not go to a slower one in silence.
class backend_choice {
 public:
  explicit backend_choice(std::vector<std::filesystem::path> libraries) : libraries_(std::move(libraries)) {}

  result<std::unique_ptr<ops::backend>> open(const ops::backend_options& wanted) {
    for (; !chosen_ && next_ + 1 < libraries_.size(); ++next_) {
      auto opened = ops::open_backend(libraries_[next_], wanted);
      chosen_ = opened.has_value();
      if (opened) return opened;
      log::info("executor", "backend not used",
                {{"library", libraries_[next_].string()}, {"reason", opened.error().text}});
    }
    return ops::open_backend(libraries_[next_], wanted);
  }

 private:
  std::vector<std::filesystem::path> libraries_;
  std::size_t next_ = 0;
  bool chosen_ = false;
};

executor_options executor_of(const pipeline_parts& parts) {
  const auto pool = pool_of(parts);
  executor_options options;
  options.backend.threads = parts.config.device.threads;
  options.backend.blocks = pool.blocks;
  options.backend.block_bytes = pool.block_bytes;
  options.open_backend = [choice = std::make_shared<backend_choice>(parts.backends)](
                             const ops::backend_options& wanted) { return choice->open(wanted); };
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

std::vector<gateway::restart_count> restarts_of(const supervision::roster& actors) {
  std::vector<gateway::restart_count> counts;
  for (auto& entry : actors.entries())
    if (entry.restarts > 0) counts.push_back({entry.id, entry.restarts, entry.last_reason});
  return counts;
}

gateway_options gateway_of(const pipeline_parts& parts) {
  gateway_options options;
  options.door = parts.door;
  for (const auto& model : parts.models) options.models.push_back({model, parts.config.tokenizer.workers});
  options.server = fmt::format("troupe {}", TROUPE_VERSION);
  options.restarts = [actors = parts.actors] { return restarts_of(*actors); };
  return options;
}

}  // namespace

std::vector<child_spec> make_pipeline(const pipeline_parts& parts) {
  std::vector<child_spec> list;
  for (const auto& model : parts.models)
    list.push_back(child(fmt::format("host/{}", model->id.value), spawn_host, host_of(model, parts)));
  list.push_back(child("executor", spawn_executor, executor_of(parts)));
  list.push_back(child("cache_manager", spawn_cache_manager, cache_manager_of(parts)));
  for (const auto& model : parts.models)
    list.push_back(
        child(fmt::format("scheduler/{}", model->id.value), spawn_scheduler, scheduler_of(model, parts)));
  for (const auto& model : parts.models)
    for (std::uint32_t worker = 0; worker < parts.config.tokenizer.workers; ++worker)
      list.push_back(child(fmt::format("tokenizer/{}/{}", model->id.value, worker), spawn_tokenizer,
                           tokenizer_of(model, worker)));
  list.push_back(child("gateway", spawn_gateway, gateway_of(parts)));
  return list;
}

}  // namespace troupe
