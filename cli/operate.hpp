// The commands of operators: one file for all, as they share their options and what they print.
#pragma once

#include "cli/commands.hpp"

namespace troupe::cli {

void add_load(CLI::App& app, context& shared);
void add_unload(CLI::App& app, context& shared);
void add_swap(CLI::App& app, context& shared);
void add_deploy(CLI::App& app, context& shared);
void add_promote(CLI::App& app, context& shared);
void add_rollback(CLI::App& app, context& shared);
void add_sleep(CLI::App& app, context& shared);
void add_drain(CLI::App& app, context& shared);
void add_wake(CLI::App& app, context& shared);
void add_pin(CLI::App& app, context& shared);
void add_history(CLI::App& app, context& shared);
void add_events(CLI::App& app, context& shared);

}  // namespace troupe::cli
