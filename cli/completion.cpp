#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <iterator>
#include <memory>

#include "cli/commands.hpp"
#include "cli/output.hpp"

namespace troupe::cli {
namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_name().empty(); });
}

// Subcommands and long options, separated by spaces.
std::string words_of(const CLI::App& command) {
  std::vector<std::string> words;
  for (const CLI::App* sub : commands_of(command)) words.push_back(sub->get_name());
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  return fmt::format("{}", fmt::join(words, " "));
}

// One branch per command: "generate") words="--help --model ..." ;;
void add_branches(std::string& out, const CLI::App& app, const std::string& path) {
  for (const CLI::App* command : commands_of(app)) {
    const std::string name = path.empty() ? command->get_name() : path + " " + command->get_name();
    fmt::format_to(std::back_inserter(out), "    \"{}\") words=\"{}\" ;;\n", name, words_of(*command));
    add_branches(out, *command, name);
  }
}

// The command so far is what was typed without options; words that are no command end it. Files complete where no
// word fits.
std::string bash_script(const CLI::App& app) {
  std::string branches;
  add_branches(branches, app, "");
  return fmt::format(R"(# bash completion of troupe; put into ~/.bashrc: source <(troupe completion bash)
_troupe() {{
  local word path="" words known=" {} "
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in -*) continue ;; esac
    case "$known" in *" ${{path:+$path/}}$word "*) path="${{path:+$path/}}$word" ;; esac
  done
  case "${{path//\// }}" in
{}    *) words="{}" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _troupe troupe
)",
                     [&] {
                       std::vector<std::string> paths;
                       for (const CLI::App* command : commands_of(app)) {
                         paths.push_back(command->get_name());
                         for (const CLI::App* sub : commands_of(*command))
                           paths.push_back(command->get_name() + "/" + sub->get_name());
                       }
                       return fmt::format("{}", fmt::join(paths, " "));
                     }(),
                     branches, words_of(app));
}

int print_completion(const std::string& shell, const CLI::App& app) {
  if (shell != "bash")
    return report_usage(
        fmt::format("completion {}: only bash is known (zsh can use it through bashcompinit)", shell));
  return write_out(bash_script(app)) ? exit_ok : exit_failed;
}

}  // namespace

void add_completion(CLI::App& app, context& shared) {
  auto shell = std::make_shared<std::string>();
  auto* command =
      app.add_subcommand("completion", "Print a script that completes commands and options in the shell");
  command->add_option("shell", *shell, "bash")->required();
  command->footer(
      "Examples:\n"
      "  source <(troupe completion bash)                     # in this shell\n"
      "  troupe completion bash >> ~/.bash_completion         # in every shell from now on\n");
  command->callback(
      [shell, &app, &shared] { shared.run = [shell, &app] { return print_completion(*shell, app); }; });
}

}  // namespace troupe::cli
