// Runs the real command as a child process: on pipes, or on a terminal of its own.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::testing {

inline constexpr std::chrono::seconds patience{60};

struct outcome {
  int status = -1;  // exit status; 128 + n if signal n ended it; -1 if it had to be killed after `patience`
  std::string out;
  std::string err;
};

using environment =
    std::map<std::string, std::string>;  // added to this process's own; an empty value removes

// The command that this build made.
std::string troupe_program();

// `troupe <arguments>` with `input` on its standard input; waits for its end.
outcome run_troupe(const std::vector<std::string>& arguments, std::string_view input = {},
                   const environment& extra = {});
// Any shell command line; $TROUPE is the command.
outcome run_shell(const std::string& line, const environment& extra = {});

// A command on a pseudo-terminal, as a person sees it. Killed when the object goes.
class terminal_session {
 public:
  explicit terminal_session(const std::vector<std::string>& arguments, const environment& extra = {});
  ~terminal_session();
  terminal_session(const terminal_session&) = delete;
  terminal_session& operator=(const terminal_session&) = delete;

  void type(std::string_view keys);
  void signal(int number) const;
  // Reads on until `text` has appeared behind what was awaited before. False: the program ended or `patience` did.
  bool wait_for(std::string_view text);
  // Exit status; -1 if it does not end in time.
  int wait_for_end();
  const std::string& screen() const { return screen_; }  // everything so far

 private:
  bool read_more(std::chrono::steady_clock::time_point until);
  pid_t child_ = -1;
  int terminal_ = -1;
  std::string screen_;
  std::size_t awaited_ = 0;
};

// `troupe serve` with a demo checkpoint on a free port. Stopped when the object goes.
class served_model {
 public:
  explicit served_model(const std::string& demo = "mixtral-demo", const std::vector<std::string>& more = {});
  ~served_model();
  served_model(const served_model&) = delete;
  served_model& operator=(const served_model&) = delete;

  bool ready() const { return !endpoint_.empty(); }
  const std::string& endpoint() const { return endpoint_; }
  void signal(int number) const;
  std::string log() const;  // of the server
  // {"--endpoint", ...} behind `arguments`.
  outcome run(std::vector<std::string> arguments, std::string_view input = {}) const;

 private:
  std::string folder_;
  std::string endpoint_;
  pid_t child_ = -1;
};

}  // namespace troupe::testing
