#include "cli/check/loaded_model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernel/program/native_ops.hpp"

namespace troupe::check {

result<modules::module_ptr> find_module(const checkpoint::checkpoint_config& config,
                                        const modules::registry& known) {
  auto found = known.find(config.architecture);
  if (found) return found;
  std::vector<std::string> served;
  for (const modules::module_ptr& m : known.all())
    served.insert(served.end(), m->architectures().begin(), m->architectures().end());
  return fail(error_code::unknown_architecture, "no module for {} (loaded: {})", config.architecture,
              served.empty() ? "none" : fmt::format("{}", fmt::join(served, ", ")));
}

result<loaded_model> load_model(const checkpoint::checkpoint_config& config, const modules::registry& known,
                                const runner_options& options) {
  const auto module = find_module(config, known);
  if (!module) return fail(module.error());
  auto program = (*module)->build(config.config_json);
  if (!program) return fail(program.error());
  auto weights = checkpoint::weights::open(config.folder);
  if (!weights) return fail(weights.error());
  auto with_ops = options;
  if (program::has_native_ops(**program)) {
    auto native = (*module)->native_ops();
    if (!native) return fail(std::move(native.error()));
    with_ops.native_ops = std::move(*native);
  }
  auto runner = model_runner::open(*program, std::move(*weights), with_ops);
  if (!runner) return fail(runner.error());
  return loaded_model{(*module)->name() + " " + (*module)->version(), std::move(*program),
                      std::move(*runner)};
}

}  // namespace troupe::check
