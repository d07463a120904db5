// From a command line to a Program: which configuration, which module. No weights are needed.
#pragma once

#include <string>

#include "cli/commands.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/modules/modules.hpp"

namespace troupe::cli {

struct built_program {
  std::string module;  // "mixtral 1.0.0"
  program::verified_program program;
};

// Of a checkpoint folder, or of a demo checkpoint by its name. Errors: as find_model and checkpoint::read_config.
result<checkpoint::checkpoint_config> read_model_config(const std::string& model,
                                                        const config::install_paths& paths);

// Builds the Program with the module that serves the configuration's architecture: that of the file `module_file`, or where that is
// empty an installed one. Errors: unknown_architecture, and what the module and the verifier say.
result<built_program> build_program(const checkpoint::checkpoint_config& config,
                                    const std::string& module_file, const config::install_paths& paths);

// `troupe program diff`
void add_program_diff(CLI::App& program, context& shared);

}  // namespace troupe::cli
