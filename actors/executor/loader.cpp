#include "actors/executor/loader.hpp"

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <map>
#include <new>
#include <optional>
#include <utility>

#include "actors/errors.hpp"
#include "kernel/base/background.hpp"
#include "kernel/program/native_ops.hpp"
#include "kernel/telemetry/log.hpp"
#include "kernel/telemetry/progress.hpp"

namespace troupe {

namespace {

using clock = std::chrono::steady_clock;

double ms_since(clock::time_point begun) {
  return std::chrono::duration<double, std::milli>(clock::now() - begun).count();
}

// The only code of a module that runs in this process for longer than a build.
result<program::native_ops> open_native_ops(const executor_options& options, const wire::LoadModel& request,
                                            const program::Program& program) {
  if (!program::has_native_ops(program)) return program::native_ops();
  if (request.module_() == nullptr)
    return fail(error_code::bad_program, "model {}: its Program uses native ops, but no module came with it",
                request.name()->string_view());
  const std::filesystem::path copy = request.module_()->str();
  return options.open_native_ops ? options.open_native_ops(copy) : modules::open_native_ops(copy);
}

result<compiled_ptr> compile(const executor_options& options, const compile_order& order) {
  const wire::LoadModel& request = *order.request;
  auto program = program::verify({request.program()->data(), request.program()->size()});
  if (!program) return fail(program.error());
  const std::filesystem::path folder = request.checkpoint()->str();
  auto native = open_native_ops(options, request, **program);
  if (!native) return fail(native.error());
  result<std::shared_ptr<const checkpoint::weights>> files = order.files;
  if (!*files)
    files = options.open_weights ? options.open_weights(folder) : checkpoint::weights::open(folder);
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
  auto made = order.backend->load(*program, *files, how);
  if (line) line->finish();
  if (!made) return fail(made.error());
  auto compiled = std::make_shared<compiled_model>();
  compiled->backend = order.backend;
  compiled->model = std::move(*made);
  compiled->files = std::move(*files);
  compiled->vocabulary = (*program)->facts()->vocabulary();
  return compiled;
}

// What a load throws costs that load, not the executor and its running sequences.
result<compiled_ptr> try_to_compile(const executor_options& options, const compile_order& order) {
  try {
    return compile(options, order);
  } catch (const std::bad_alloc&) {
    return fail(error_code::no_room, "model {}: not enough memory for its weights",
                order.request->name()->string_view());
  } catch (const std::exception& problem) {
    return fail(error_code::internal, "model {}: {}", order.request->name()->string_view(), problem.what());
  }
}

// The models that sleep, each under the request that wakes it.
class shelf {
 public:
  void keep(const message<wire::LoadModel>& request, compiled_ptr compiled, std::uint64_t host_bytes) {
    places_[{request->model(), request->version()}] = {request, std::move(compiled), host_bytes};
  }
  // Null: nothing of that number sleeps. What sleeps there for another request is of no use and goes.
  compiled_ptr find(const wire::LoadModel& request) {
    const auto found = places_.find({request.model(), request.version()});
    if (found == places_.end()) return nullptr;
    if (same_model(*found->second.request, request)) return found->second.compiled;
    places_.erase(found);
    return nullptr;
  }
  // Answers the host memory that goes with them.
  std::uint64_t drop(const versions_of& which) {
    std::uint64_t bytes = 0;
    std::erase_if(places_, [&](const auto& one) {
      const bool goes = which.has(one.first.first, one.first.second);
      if (goes) bytes += one.second.host_bytes;
      return goes;
    });
    return bytes;
  }

 private:
  struct place {
    message<wire::LoadModel> request;
    compiled_ptr compiled;
    std::uint64_t host_bytes = 0;
  };
  std::map<std::pair<std::uint32_t, std::uint32_t>, place> places_;  // by model and version
};

struct loader_state {
  static inline const char* name = "loader";
  executor_options options;
  shelf asleep;
};
using loader_pointer = loader_actor::stateful_pointer<loader_state>;

// The copy goes behind the answer: nobody waits for its memory.
caf::result<compiled_ptr> wake(loader_pointer self, const wire::LoadModel& request,
                               const compiled_ptr& compiled) {
  const auto begun = clock::now();
  auto awake = compiled->model->wake();
  const versions_of own{request.model(), request.version()};
  if (!awake) {
    if (awake.error().code != error_code::no_room) self->state.asleep.drop(own);
    return to_caf({awake.error().code, fmt::format("model {}: it cannot wake: {}",
                                                   request.name()->string_view(), awake.error().text)});
  }
  self->state.asleep.drop(own);
  compiled->woken_bytes = awake->host_bytes;
  log::info("executor", "model woken",
            {{"model", request.name()->string_view()},
             {"device_bytes", awake->device_bytes},
             {"host_bytes", awake->host_bytes},
             {"ms", ms_since(begun)}});
  auto spent = std::make_shared<discard_order>();
  spent->what.push_back(std::move(awake->spent));
  caf::anon_send(caf::actor_cast<loader_actor>(self), std::move(spent));
  return compiled;
}

result<ops::rest_report> try_to_sleep(ops::model& model) {
  try {
    return model.sleep();
  } catch (const std::exception& problem) {
    return fail(error_code::internal, "{}", problem.what());
  }
}

rest_outcome rest(loader_state& state, rest_order& order) {
  const auto begun = clock::now();
  order.others.clear();
  rest_outcome outcome;
  auto done = try_to_sleep(*order.compiled->model);
  if (!done) {
    outcome.not_kept = done.error().text;
    order.compiled.reset();
    return outcome;
  }
  outcome.freed_bytes = done->device_bytes;
  outcome.kept_bytes = done->host_bytes;
  outcome.ms = ms_since(begun);
  log::info("executor", "model asleep",
            {{"model", order.request->name()->string_view()},
             {"device_bytes", outcome.freed_bytes},
             {"host_bytes", outcome.kept_bytes},
             {"ms", outcome.ms}});
  state.asleep.keep(order.request, std::move(order.compiled), done->host_bytes);
  return outcome;
}

loader_actor::behavior_type loader(loader_pointer self, executor_options options) {
  self->state.options = std::move(options);
  const auto step_aside = [detached = self->state.options.detached] {
    if (detached) run_in_background();
  };
  return {[=](const compile_order_ptr& order) -> caf::result<compiled_ptr> {
            step_aside();
            if (const auto asleep = self->state.asleep.find(*order->request))
              return wake(self, *order->request, asleep);
            auto compiled = try_to_compile(self->state.options, *order);
            if (!compiled) return to_caf(compiled.error());
            return std::move(*compiled);
          },
          [=](const rest_order_ptr& order) {
            step_aside();
            return rest_outcome_ptr(std::make_shared<const rest_outcome>(rest(self->state, *order)));
          },
          [=](const discard_order_ptr& order) {
            order->what.clear();
            return order->asleep ? self->state.asleep.drop(*order->asleep) : std::uint64_t{0};
          }};
}

}  // namespace

bool same_model(const wire::LoadModel& a, const wire::LoadModel& b) {
  const auto module_of = [](const wire::LoadModel& m) {
    return m.module_() == nullptr ? std::string_view() : m.module_()->string_view();
  };
  return a.checkpoint()->string_view() == b.checkpoint()->string_view() && module_of(a) == module_of(b) &&
         std::ranges::equal(*a.program(), *b.program());
}

loader_actor spawn_loader(caf::actor_system& system, const executor_options& options) {
  if (options.detached) return system.spawn<caf::detached>(loader, options);
  return system.spawn(loader, options);
}

}  // namespace troupe
