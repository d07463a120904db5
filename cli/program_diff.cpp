#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/program_source.hpp"
#include "kernel/program/diff.hpp"

namespace troupe::cli {
namespace {

struct diff_command {
  std::string before, after;
  std::string module_a, module_b;
  bool json = false;
  bool full = false;
};

// As of diff(1).
enum diff_status : int { equal = 0, differs = 1, trouble = 2 };

int trouble_with(const error& e) {
  report(e);
  return trouble;
}

// A config.json that stands alone, or what `troupe program` takes.
result<built_program> build_side(const std::string& given, const std::string& module_file,
                                 const config::install_paths& paths) {
  std::error_code ignored;
  const auto config = std::filesystem::is_regular_file(given, ignored) ? checkpoint::read_config(given)
                                                                       : read_model_config(given, paths);
  if (!config) return fail(config.error());
  return build_program(*config, module_file, paths);
}

int show_difference(const diff_command& c, const context& shared) {
  const auto before = build_side(c.before, c.module_a, shared.paths);
  if (!before) return trouble_with(before.error());
  const auto after = build_side(c.after, c.module_b, shared.paths);
  if (!after) return trouble_with(after.error());
  const auto d = program::diff(*before->program, *after->program);
  const bool written = c.json ? write_out(program::print_json(d) + "\n")
                              : write_out(fmt::format("a: {} ({})\nb: {} ({})\n\n", c.before, before->module,
                                                      c.after, after->module) +
                                          program::print(d, !c.full));
  if (!written) return trouble;
  return d.equal() ? equal : differs;
}

}  // namespace

void add_program_diff(CLI::App& program, context& shared) {
  auto o = std::make_shared<diff_command>();
  auto* command =
      program.add_subcommand("diff", "Show what changes between two Programs, and what a swap could keep");
  command->add_option("a", o->before, "Checkpoint folder, name of a demo checkpoint, or config.json")
      ->required();
  command->add_option("b", o->after, "The same")->required();
  command->add_option("--module-a", o->module_a,
                      "Library file of the module for a, instead of the installed ones");
  command->add_option("--module-b", o->module_b, "The same for b");
  command->add_flag("--full", o->full, "Show every layer; else equal changes of several layers once");
  command->add_flag("--json", o->json, "One JSON object on stdout");
  command->footer(
      "Compares facts, weights (added, removed, reshaped, stored or declared otherwise), caches, ops layer "
      "by layer, and\n"
      "probes. No weights are needed. Lines begin with + (only b), - (only a) or ~ (changed: a, then b).\n"
      "Ends with 0 if the Programs are equal, 1 if they differ, 2 if there was trouble.\n\n"
      "Examples:\n"
      "  troupe program diff mixtral-8x7b.json mixtral-8x22b.json\n"
      "  troupe program diff demo/mixtral-demo demo/mixtral-demo --module-b "
      "build/lib/troupe/modules/mixtral.so\n"
      "  troupe program diff a b --json | jq .swap\n");
  command->callback([o, &shared] { shared.run = [o, &shared] { return show_difference(*o, shared); }; });
}

}  // namespace troupe::cli
