// The troupe command: reads the command line, says what is wrong with it, runs one command.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/operate.hpp"
#include "cli/version.hpp"
#include "kernel/base/text.hpp"
#include "kernel/telemetry/log.hpp"

namespace {

using namespace troupe;
using namespace troupe::cli;

constexpr const char* description =
    "Troupe serves open mixture-of-experts language models: several per machine, streamed, over ZeroMQ.\n";

constexpr const char* footer =
    "\nFirst steps:\n"
    "  troupe serve                          serve the demo model that comes with Troupe\n"
    "  troupe chat                           talk to it (in another terminal)\n"
    "  troupe generate \"Hello!\"              ask once\n"
    "  troupe serve --model path/to/folder   serve a checkpoint in Hugging Face format\n"
    "\nEach command explains itself: troupe serve --help\n"
    "Exit status: 0 done, 1 the server or the request failed, 2 command line or input files are wrong, "
    "130 interrupted.";

void declare_globals(CLI::App& app, global_options& global) {
  app.set_version_flag("--version", fmt::format("troupe {}", version));
  app.add_option("--endpoint,--server", global.server, "Endpoint of the server that client commands talk to")
      ->envname("TROUPE_ENDPOINT")
      ->capture_default_str();
  app.add_option("--log-level", global.log_level, "Least level to log: debug, info, warning, error, off");
  app.add_flag("--no-colour{false},--no-color{false}", global.colour,
               "No colours (also: NO_COLOR in the environment)");
}

void declare_commands(CLI::App& app, context& shared) {
#define TROUPE_COMMAND(name) add_##name(app, shared);
#include "commands.inc"
#undef TROUPE_COMMAND
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) command->fallthrough();
}

// The command that was named last: `troupe module inspect` answers for `inspect`.
const CLI::App& innermost(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().back();
  return *at;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

// "unknown option --modle; did you mean --model?" for the first word that nobody wanted.
std::string explain_unknown(const CLI::App& app, const std::string& word) {
  const CLI::App& command = innermost(app);
  std::vector<std::string> known;
  if (word.starts_with("-")) {
    known = option_names(command);
    for (const std::string& name : option_names(app)) known.push_back(name);
  } else {
    for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; }))
      known.push_back(sub->get_name());
  }
  const std::string bare = word.substr(0, word.find('='));
  const std::string near = nearest(bare, known);
  const std::string where = &command == &app ? "" : fmt::format(" of troupe {}", command.get_name());
  const char* kind = word.starts_with("-") ? "option" : known.empty() ? "argument" : "command";
  if (!near.empty()) return fmt::format("unknown {} {}{}; did you mean {}?", kind, bare, where, near);
  return fmt::format("unknown {} {}{}; see troupe {}--help", kind, bare, where,
                     &command == &app ? "" : command.get_name() + " ");
}

int explain(const CLI::App& app, const CLI::ParseError& problem) {
  if (problem.get_exit_code() == 0) return app.exit(problem);  // --help, --version
  const auto unknown = app.remaining(true);
  if (!unknown.empty()) return report_usage(explain_unknown(app, unknown.front()));
  return report_usage(problem.what());
}

result<void> set_up_log(const global_options& global) {
  auto least = log::parse_level(global.log_level.empty() ? "warning" : global.log_level);
  if (!least) return fail(std::move(least.error()));
  return log::configure({.least = *least, .colour = global.colour});
}

int run(int argc, char** argv) {
  CLI::App app(description, "troupe");
  app.footer(footer);
  app.get_formatter()->column_width(34);
  context shared;
  shared.paths = config::find_install();
  if (const char* no_colour = std::getenv("NO_COLOR"); no_colour && *no_colour) shared.global.colour = false;
  declare_globals(app, shared.global);
  declare_commands(app, shared);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return explain(app, problem);
  }
  if (!shared.run) {
    fmt::print(stderr, "{}", innermost(app).help());
    return exit_usage;
  }
  if (auto done = set_up_log(shared.global); !done) return report(done.error());
  return shared.run();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& problem) {
    return report({error_code::internal, problem.what()});
  }
}
