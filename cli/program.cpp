#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/program_source.hpp"
#include "kernel/program/print.hpp"

namespace troupe::cli {
namespace {

struct program_command {
  std::string model;
  std::string config;
  std::string module;
  bool json = false;
  bool full = false;
  bool no_weights = false;
};

int show_program(const program_command& c, const context& shared) {
  if (c.model.empty() == c.config.empty())
    return report_usage(c.model.empty() ? "expected a checkpoint folder, or a configuration with --config"
                                        : "expected either a checkpoint folder or --config, found both");
  const auto config =
      c.config.empty() ? read_model_config(c.model, shared.paths) : checkpoint::read_config(c.config);
  if (!config) return report(config.error());
  const auto built = build_program(*config, c.module, shared.paths);
  if (!built) return report(built.error());
  const program::Program& program = *built->program;
  const bool written =
      c.json ? write_out(program::print_json(program) + "\n")
             : write_out(program::print(program, {.fold_layers = !c.full, .weights = !c.no_weights}));
  return written ? exit_ok : exit_failed;
}

}  // namespace

void add_program(CLI::App& app, context& shared) {
  auto o = std::make_shared<program_command>();
  auto* command = app.add_subcommand("program", "Show the Program that a module compiles a checkpoint to");
  command->add_option("model", o->model, "Checkpoint folder, or the name of a demo checkpoint");
  command->add_option("--config", o->config,
                      "A config.json that stands alone, instead of a checkpoint folder");
  command->add_option("--module", o->module,
                      "Library file of the module to use, instead of the installed ones");
  command->add_flag("--full", o->full, "Show every layer; else one of several equal ones");
  command->add_flag("--no-weights", o->no_weights, "Leave out the list of weights");
  command->add_flag("--json", o->json, "One JSON object on stdout");
  command->footer(
      "A Program is what a server runs: the weights it needs, what it keeps per sequence, and a list of "
      "operations.\n"
      "Only config.json is read; no weights are needed. The module is found by its `architectures`.\n\n"
      "Examples:\n"
      "  troupe program demo/mixtral-demo\n"
      "  troupe program --config Mixtral-8x7B.json --json | jq .facts\n"
      "  troupe program --config my.json --module build/lib/troupe/modules/mine.so\n");
  add_program_diff(*command, shared);
  command->callback([o, command, &shared] {
    if (!command->get_subcommands().empty()) return;  // it has said what to run
    shared.run = [o, &shared] { return show_program(*o, shared); };
  });
}

}  // namespace troupe::cli
