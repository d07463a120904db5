// What a check is at, on stderr.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "cli/output.hpp"

namespace troupe::cli {

// On a terminal one line that is redrawn; else a line per group.
class progress_line {
 public:
  progress_line() : terminal_(is_terminal(STDERR_FILENO)) {}
  ~progress_line() { clear(); }
  void operator()(std::string_view name, std::size_t done, std::size_t total) {
    if (!terminal_) {
      if (name != last_) fmt::print(stderr, "checking {} ...\n", name);
      last_ = name;
      return;
    }
    fmt::print(stderr, "\r\x1b[Kchecking {}{}", name,
               total > 0 ? fmt::format(" {}/{}", done, total) : " ...");
    std::fflush(stderr);
    open_ = true;
  }
  void clear() {
    if (open_) fmt::print(stderr, "\r\x1b[K");
    open_ = false;
  }

 private:
  bool terminal_;
  bool open_ = false;
  std::string last_;
};

}  // namespace troupe::cli
