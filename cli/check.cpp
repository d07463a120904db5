#include "cli/check/check.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.hpp"
#include "cli/local.hpp"
#include "cli/output.hpp"
#include "cli/progress_line.hpp"

namespace troupe::cli {
namespace {

struct check_command {
  std::string model;
  std::string goldens;
  std::string module;
  std::vector<std::string> only;
  std::vector<std::string> prompts;
  std::string device = "cpu";
  bool int8 = false;
  std::uint32_t threads = 0;
  bool reference_ops = false;
  bool json = false;
  bool all = false;
};

// <model>/goldens if it exists.
std::optional<std::filesystem::path> goldens_of(const check_command& c, const std::filesystem::path& model) {
  if (!c.goldens.empty()) return c.goldens;
  std::error_code ignored;
  const auto beside = model / "goldens";
  if (std::filesystem::is_directory(beside, ignored)) return beside;
  return std::nullopt;
}

int run_check(const check_command& c, const context& shared) {
  const auto folder = find_model(c.model, shared.paths);
  if (!folder) return report(folder.error());
  const auto known = load_modules_or(shared.paths, c.module);
  if (!known) return report(known.error());
  for (const error& e : known->broken) fmt::print(stderr, "troupe: warning: {}\n", e.text);
  progress_line line;
  check::options o;
  o.model = *folder;
  o.goldens = goldens_of(c, *folder);
  std::error_code ignored;
  if (o.goldens && !std::filesystem::is_directory(*o.goldens, ignored))
    return report({error_code::not_found, fmt::format("--goldens {}: no such folder", o.goldens->string())});
  o.only = c.only;
  o.prompts = c.prompts;
  o.runner.threads = c.threads;
  o.runner.reference_ops = c.reference_ops;
  o.runner.int8 = c.int8;
  o.runner.library = shared.paths.backend(c.device);
  o.exact = c.device == "cpu";
  o.report = std::ref(line);
  const auto found = check::run(o, known->registry);
  line.clear();
  if (!found) return report(found.error());
  const bool written = c.json ? write_json(check::to_json(*found))
                              : write_out(check::to_text(*found, c.all ? ~std::size_t{0} : 5));
  return found->ok() && written ? exit_ok : exit_failed;
}

}  // namespace

void add_check(CLI::App& app, context& shared) {
  auto o = std::make_shared<check_command>();
  auto* command = app.add_subcommand(
      "check", "Compare a checkpoint's tokenizer, template and model with reference outputs");
  command->add_option("model", o->model, "Checkpoint folder, or the name of a demo checkpoint")->required();
  command->add_option(
      "--goldens", o->goldens,
      "Folder of reference outputs (default: `goldens` in the checkpoint folder, if there is one)");
  command->add_option("--module", o->module,
                      "Library file of the module to use, instead of the installed ones");
  command
      ->add_option("--only", o->only,
                   fmt::format("Groups to run, separated by commas: {}; without reference outputs: {}",
                               fmt::join(check::golden_groups, ", "), fmt::join(check::plain_groups, ", ")))
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("--prompt", o->prompts, "Run only the prompts with these ids")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("--device", o->device, "Backend to run the model on")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command->add_flag("--int8", o->int8, "Quantize to int8 while loading what the model allows (cuda only)");
  command->add_option("--threads", o->threads, "Threads to compute with; 0 = all cores")
      ->capture_default_str();
  command->add_flag("--reference-ops", o->reference_ops,
                    "Compute with the plain loops instead of the fast versions");
  command->add_flag("--all", o->all, "Show all failures, not only five of each group");
  command->add_flag("--json", o->json, "One JSON object on stdout");
  command->footer(
      "Runs without a server. Ends with 0 if every group passed, with 1 if one failed or could not run.\n\n"
      "Examples:\n"
      "  troupe check demo/mixtral-demo --goldens tests/golden/mixtral\n"
      "  troupe check demo/jamba-demo --goldens tests/golden/jamba --only tokenizer,template\n"
      "  troupe check my-checkpoint --goldens my-references --module build/lib/troupe/modules/mine.so\n"
      "  troupe check ~/models/Mixtral-8x7B-v0.1      # complete, and does it run at all?\n");
  command->callback([o, &shared] { shared.run = [o, &shared] { return run_check(*o, shared); }; });
}

}  // namespace troupe::cli
