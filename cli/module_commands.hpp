// The parts of `troupe module` that have files of their own.
#pragma once

#include "cli/commands.hpp"

namespace troupe::cli {

void add_module_check(CLI::App& module, context& shared);
void add_module_trust(CLI::App& module, context& shared);  // sign, trust

void add_module_new(CLI::App& module, context& shared);

}  // namespace troupe::cli
