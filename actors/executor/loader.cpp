#include "actors/executor/loader.hpp"

#include <caf/typed_event_based_actor.hpp>
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

loader_actor::behavior_type loader(loader_actor::pointer, executor_options options) {
  return {[options = std::move(options)](const compile_order_ptr& order) -> caf::result<compiled_ptr> {
            if (options.detached) run_in_background();
            auto compiled = try_to_compile(options, *order);
            if (!compiled) return to_caf(compiled.error());
            return std::move(*compiled);
          },
          [](const discard_order_ptr& order) {
            order->what.clear();
            return true;
          }};
}

}  // namespace

loader_actor spawn_loader(caf::actor_system& system, const executor_options& options) {
  if (options.detached) return system.spawn<caf::detached>(loader, options);
  return system.spawn(loader, options);
}

}  // namespace troupe
