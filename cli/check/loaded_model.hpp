// A checkpoint ready to run outside of a server.
#pragma once

#include <memory>
#include <string>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/modules/modules.hpp"
#include "kernel/program/program.hpp"
#include "sandbox/conformance/model_runner.hpp"

namespace troupe::check {

struct loaded_model {
  std::string module_name;  // "mixtral 0.1.0"
  program::verified_program program;
  std::unique_ptr<model_runner> runner;
};

// Errors: unknown_architecture ("no module for DbrxForCausalLM (loaded: ...)"), and those of module,
// checkpoint and backend.
result<modules::module_ptr> find_module(const checkpoint::checkpoint_config& config,
                                        const modules::registry& known);
result<loaded_model> load_model(const checkpoint::checkpoint_config& config, const modules::registry& known,
                                const runner_options& options);

}  // namespace troupe::check
