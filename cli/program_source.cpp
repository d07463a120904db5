#include "cli/program_source.hpp"

#include "cli/check/loaded_model.hpp"
#include "cli/local.hpp"

namespace troupe::cli {

result<checkpoint::checkpoint_config> read_model_config(const std::string& model,
                                                        const config::install_paths& paths) {
  const auto folder = find_model(model, paths);
  if (!folder) return fail(folder.error());
  return checkpoint::read_config(*folder);
}

result<built_program> build_program(const checkpoint::checkpoint_config& config,
                                    const std::string& module_file, const config::install_paths& paths) {
  const auto known = load_modules_or(paths, module_file);
  if (!known) return fail(known.error());
  const auto module = check::find_module(config, known->registry);
  if (!module) return fail(module.error());
  auto program = (*module)->build(config.config_json);
  if (!program) return fail(program.error());
  return built_program{(*module)->name() + " " + (*module)->version(), std::move(*program)};
}

}  // namespace troupe::cli
