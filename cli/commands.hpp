// The commands of `troupe`, and what they share. One file per command: cli/<command>.cpp defines
// add_<command>.
//
// add_<command> declares the subcommand with its options and, in the subcommand's callback, sets
// `context::run`; nothing is done while the command line is still being read. main() then calls `run` and
// exits with what it returns:
//
//   void add_version(CLI::App& app, context& shared) {
//     auto* command = app.add_subcommand("version", "What this build is");
//     command->callback([&shared] { shared.run = [] { return version(); }; });
//   }
//
// Options of a command outlive the parse: keep them in a std::shared_ptr that the callback captures.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "kernel/base/result.hpp"
#include "kernel/config/paths.hpp"

namespace CLI {
class App;
}

namespace troupe::cli {

// What the process returns. A script may rely on them.
enum exit_status : int {
  exit_ok = 0,
  exit_failed = 1,         // the server or the request failed
  exit_usage = 2,          // command line, configuration file or input files: mend them and try again
  exit_interrupted = 130,  // Ctrl-C at a prompt
};

inline constexpr const char* default_endpoint = "tcp://127.0.0.1:7410";

// Options that stand before the command or behind it: troupe chat --endpoint tcp://box:7410
struct global_options {
  std::string server = default_endpoint;  // --endpoint, else $TROUPE_ENDPOINT
  std::string
      log_level;  // --log-level: debug, info, warning, error, off; empty = not given: what the configuration
                  // says, or warning
  bool colour = true;  // --no-colour or $NO_COLOR; still only on a terminal
};

struct context {
  global_options global;
  config::install_paths paths;
  std::function<int()> run;
};

// "troupe: error: <text>" on stderr (red on a terminal). Answers the exit status that fits the code.
int report(const error& e);
// The same for a wrong command line: exit_usage.
int report_usage(std::string_view text);
exit_status status_of(error_code code);

void add_serve(CLI::App& app, context& shared);
void add_chat(CLI::App& app, context& shared);
void add_generate(CLI::App& app, context& shared);
void add_models(CLI::App& app, context& shared);
void add_status(CLI::App& app, context& shared);
void add_tokenize(CLI::App& app, context& shared);
void add_program(CLI::App& app, context& shared);
void add_module(CLI::App& app, context& shared);
void add_check(CLI::App& app, context& shared);
void add_synth(CLI::App& app, context& shared);
void add_completion(CLI::App& app, context& shared);
void add_version(CLI::App& app, context& shared);

}  // namespace troupe::cli
