// troupe module check
#include <chrono>
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.hpp"
#include "cli/local.hpp"
#include "cli/module_commands.hpp"
#include "cli/output.hpp"
#include "cli/progress_line.hpp"
#include "cli/sanitizer_runtime.hpp"
#include "sandbox/conformance/conformance.hpp"

namespace troupe::cli {
namespace {

struct module_check_command {
  std::string file;
  std::vector<std::string> configs;
  std::string checkpoint;
  std::uint32_t seconds = 10;
  bool json = false;
  bool all = false;
  bool address_sanitizer = false;
};

int check_module(const module_check_command& c, const context& shared) {
  if (c.address_sanitizer)
    if (const auto ok = restart_with_address_sanitizer(c.file); !ok) return report(ok.error());
  const auto store = open_store(shared.paths);
  if (!store) return report(store.error());
  conformance::options o;
  o.module = c.file;
  o.configs.assign(c.configs.begin(), c.configs.end());
  if (!c.checkpoint.empty()) {
    const auto folder = find_model(c.checkpoint, shared.paths);
    if (!folder) return report(folder.error());
    o.checkpoint = *folder;
  }
  o.backend = shared.paths.backend("cpu");
  o.limits.cpu = std::chrono::seconds(c.seconds);
  o.limits.wall = 3 * o.limits.cpu;
  progress_line line;
  o.progress = std::ref(line);
  const auto found = conformance::run(o, *store);
  line.clear();
  if (!found) return report(found.error());
  const bool written = c.json ? write_json(check::to_json(*found))
                              : write_out(check::to_text(*found, c.all ? ~std::size_t{0} : 5));
  return found->ok() && written ? exit_ok : exit_failed;
}

}  // namespace

void add_module_check(CLI::App& module, context& shared) {
  auto o = std::make_shared<module_check_command>();
  auto* command =
      module.add_subcommand("check", "Judge a module: does it keep the rules that all modules keep?");
  command->add_option("file", o->file, "Shared library")->required();
  command
      ->add_option("--config", o->configs,
                   "A config.json that the module should build; may be given several times")
      ->allow_extra_args(false);
  command->add_option(
      "--checkpoint", o->checkpoint,
      "Checkpoint folder, or the name of a demo checkpoint: its config.json, and are its weights all there?");
  command
      ->add_option("--seconds", o->seconds,
                   "Processor time that one build, or one step, may take; three times as long by the clock")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  command->add_flag(
      "--address-sanitizer", o->address_sanitizer,
      "The file was built with -fsanitize=address: what the sanitizer reports fails the case. Its runtime "
      "needs a cell with lower walls, so only for code that you trust");
  command->add_flag("--all", o->all, "Show all failures, not only five of each group");
  command->add_flag("--json", o->json, "One JSON object on stdout");
  command->footer(
      "Builds Programs from the given configurations, their neighbours and their mistakes, and runs small "
      "relatives of them with\n"
      "random weights. The module's code runs in a cell without rights; native ops run in a child process "
      "with "
      "the user's rights,\n"
      "if the module is trusted. Ends with 0 if every group passed, with 1 if one failed, with 2 if the file "
      "is no module.\n\n"
      "Examples:\n"
      "  troupe module check lib/troupe/modules/mixtral.so --checkpoint mixtral-demo\n"
      "  troupe module check ./mine.so --config tiny/config.json --config large/config.json --json\n");
  command->callback([o, &shared] { shared.run = [o, &shared] { return check_module(*o, shared); }; });
}

}  // namespace troupe::cli
