// The commands of operators: one file for all, as they share their options and what they print.
#pragma once

#include "cli/commands.hpp"

namespace troupe::cli {

void add_load(CLI::App& app, context& shared);
void add_unload(CLI::App& app, context& shared);
void add_history(CLI::App& app, context& shared);
void add_events(CLI::App& app, context& shared);

}  // namespace troupe::cli
