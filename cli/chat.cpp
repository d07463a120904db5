#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/answer_writer.hpp"
#include "cli/commands.hpp"
#include "cli/conversation.hpp"
#include "cli/interrupt.hpp"
#include "cli/line_reader.hpp"
#include "cli/output.hpp"
#include "cli/reach.hpp"

namespace troupe::cli {
namespace {

struct chat_command {
  std::string model;
  std::string system;
  sampling_flags sampling;
  bool no_history = false;
};

// The chat on a terminal or a pipe: reads lines, shows answers as they come.
class chat {
 public:
  chat(reached_server& server, conversation& talk, line_reader& lines, bool terminal)
      : server_(server), talk_(talk), lines_(lines), terminal_(terminal) {}

  int run() {
    while (true) {
      std::string line;
      switch (lines_.read(line)) {
        case line_reader::outcome::end:
          if (terminal_) write_out("\n");
          return status_;
        case line_reader::outcome::interrupted:
          if (interrupted_once_ || !terminal_) return exit_interrupted;
          interrupted_once_ = true;
          note("(Ctrl-D or Ctrl-C again leaves)");
          continue;
        case line_reader::outcome::line:
          break;
      }
      interrupted_once_ = false;
      if (line.find_first_not_of(" \t") == line.npos) continue;
      if (conversation::is_command(line)) {
        if (!run_command(line)) return status_;
      } else if (!answer(line.starts_with("//") ? line.substr(1) : line)) {
        return exit_failed;  // nobody reads what is written
      }
    }
  }

 private:
  void note(const std::string& text) const { fmt::print(stderr, "{}\n", text); }

  // False: the chat is over.
  bool run_command(const std::string& line) {
    const auto r = talk_.command(line);
    if (!r) {
      failed(r.error());
      return true;
    }
    return write_out(r->text) && !r->leave;
  }

  // A pipe's exit status tells of failures; on a terminal they have been seen.
  void failed(const error& e) {
    const int status = report(e);
    if (!terminal_) status_ = status;
  }

  // False: stdout is closed.
  bool answer(const std::string& question) {
    const auto request = talk_.ask(question);
    if (!request) return failed(request.error()), true;
    interrupt_guard::clear();
    std::string text;
    bool written = true;
    try {
      client::stream stream = server_.connection.generate(*request);
      {
        const cancel_on_interrupt watch([&stream] { stream.cancel(); });
        while (const auto piece = stream.next()) {
          text += piece->text;
          if (written && !(written = write_out(piece->text))) stream.cancel();
        }
      }
      if (written) written = write_out(text.ends_with('\n') ? "" : "\n");
      if (interrupt_guard::pressed()) note("(cancelled)");
      talk_.answered(question, text, stream.final());
      if (talk_.shows_usage()) note("(" + usage_text(stream.final().usage) + ")");
    } catch (const client::failure& f) {
      if (!text.empty()) write_out("\n");
      failed(to_error(f));
      if (f.code() == error_code::context_exceeded) note("(/reset forgets the conversation)");
    }
    interrupt_guard::clear();
    return written;
  }

  reached_server& server_;
  conversation& talk_;
  line_reader& lines_;
  bool terminal_;
  bool interrupted_once_ = false;
  int status_ = exit_ok;
};

int run_chat(const chat_command& c, const context& shared) {
  auto server = reach(shared, c.model);
  if (!server) return report(server.error());
  conversation talk(c.sampling, c.system, server->model);
  if (const auto checked = talk.ask(""); !checked) return report(checked.error());
  const bool terminal = is_terminal(STDIN_FILENO) && is_terminal(STDOUT_FILENO);
  const interrupt_guard guard;
  const auto lines =
      terminal ? make_terminal_reader("> ", c.no_history ? "" : chat_history_file()) : make_plain_reader();
  if (terminal)
    fmt::print(stderr, "{} at {}. /help lists commands, Ctrl-C cancels an answer, Ctrl-D leaves.\n",
               server->model.empty() ? "The default model" : server->model, server->connection.endpoint());
  return chat(*server, talk, *lines, terminal).run();
}

}  // namespace

void add_chat(CLI::App& app, context& shared) {
  auto o = std::make_shared<chat_command>();
  auto* command = app.add_subcommand("chat", "Talk to a model in the terminal");
  command->add_option(
      "--model", o->model,
      "Name of a model at the server, or a checkpoint folder (with a slash): then no server is needed");
  command->add_option("--system", o->system, "A system message before the conversation");
  command->add_flag("--no-history", o->no_history, "Keep no history of what was typed");
  add_sampling_flags(*command, o->sampling);
  command->footer(
      "Answers stream as they are made. Ctrl-C cancels an answer, Ctrl-D leaves, /help lists commands.\n"
      "What was typed is kept in $XDG_STATE_HOME/troupe/chat_history (else ~/.local/state).\n"
      "Standard input may be a pipe: then each line is a question and nothing but the answers is printed.\n\n"
      "Examples:\n"
      "  troupe chat\n"
      "  troupe chat --system \"You are a pirate.\" --temperature 0.7\n"
      "  troupe chat --model ./demo/mixtral-demo            # no server\n"
      "  printf 'My name is Anna.\\nWhat is my name?\\n' | troupe chat\n");
  command->callback([o, &shared] { shared.run = [o, &shared] { return run_chat(*o, shared); }; });
}

}  // namespace troupe::cli
