#include "kernel/program/program.hpp"

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/check/loaded_model.hpp"
#include "cli/commands.hpp"
#include "cli/local.hpp"
#include "cli/output.hpp"
#include "kernel/program/print.hpp"

namespace troupe::cli {
namespace {

struct program_command {
  std::string model;
  bool json = false;
  bool full = false;
  bool no_weights = false;
};

int show_program(const program_command& c, const context& shared) {
  const auto folder = find_model(c.model, shared.paths);
  if (!folder) return report(folder.error());
  const auto config = checkpoint::read_config(*folder);
  if (!config) return report(config.error());
  const auto known = load_modules(shared.paths);
  if (!known) return report(known.error());
  const auto module = check::find_module(*config, known->registry);
  if (!module) return report(module.error());
  const auto program = (*module)->build(config->config_json);
  if (!program) return report(program.error());
  const bool written =
      c.json ? write_out(program::print_json(**program) + "\n")
             : write_out(program::print(**program, {.fold_layers = !c.full, .weights = !c.no_weights}));
  return written ? exit_ok : exit_failed;
}

}  // namespace

void add_program(CLI::App& app, context& shared) {
  auto o = std::make_shared<program_command>();
  auto* command = app.add_subcommand("program", "Show the Program that a module compiles a checkpoint to");
  command->add_option("model", o->model, "Checkpoint folder, or the name of a demo checkpoint")->required();
  command->add_flag("--full", o->full, "Show every layer; else one of several equal ones");
  command->add_flag("--no-weights", o->no_weights, "Leave out the list of weights");
  command->add_flag("--json", o->json, "One JSON object on stdout");
  command->footer(
      "A Program is what a server runs: the weights it needs, what it keeps per sequence, and a list of "
      "operations.\n"
      "Only config.json of the folder is read; no weights are needed.\n\n"
      "Examples:\n"
      "  troupe program demo/mixtral-demo\n"
      "  troupe program ~/models/Mixtral-8x7B-v0.1 --json | jq '.ops | length'\n");
  command->callback([o, &shared] { shared.run = [o, &shared] { return show_program(*o, shared); }; });
}

}  // namespace troupe::cli
