// Where a chat's lines come from: a terminal with line editing and a history, or anything else, line by line.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace troupe::cli {

class line_reader {
 public:
  enum class outcome {
    line,
    end,
    interrupted
  };  // end: Ctrl-D or end of input; interrupted: Ctrl-C, the line is dropped

  virtual ~line_reader() = default;
  // `line` comes without its end. Needs an interrupt_guard for `interrupted`.
  virtual outcome read(std::string& line) = 0;
};

// libedit on standard input, prompt and echo on stdout. Lines are kept in `history` across runs (empty path = not kept);
// a history that cannot be read or written is none.
std::unique_ptr<line_reader> make_terminal_reader(const std::string& prompt,
                                                  const std::filesystem::path& history);

// Standard input, no prompt.
std::unique_ptr<line_reader> make_plain_reader();

// $XDG_STATE_HOME/troupe/chat_history, else ~/.local/state/troupe/chat_history; empty if there is no home.
std::filesystem::path chat_history_file();

}  // namespace troupe::cli
