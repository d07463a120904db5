// A progress line on stderr for long work such as loading weights.
//   terminal   "loading mixtral  42%  6.3 MiB of 15.0 MiB", redrawn in place at most 10 times a second
//   otherwise  a line at the start, one per quarter and one at the end, so that a log stays readable
// One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace troupe::telemetry {

class progress {
 public:
  using clock = std::chrono::steady_clock;

  // Writes to `out` (borrowed). `terminal` chooses the form.
  progress(std::string what, std::FILE* out, bool terminal);
  // To stderr, in the form that fits it.
  explicit progress(std::string what);
  ~progress();  // ends a line that is still open
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  // total_bytes 0 = unknown: nothing is shown but the amount.
  void update(std::uint64_t done_bytes, std::uint64_t total_bytes, clock::time_point now = clock::now());
  void finish();

 private:
  void draw(std::uint64_t done_bytes, std::uint64_t total_bytes);

  std::string what_;
  std::FILE* out_;
  bool terminal_;
  bool open_ = false;  // a line on the terminal has no end yet
  bool finished_ = false;
  int quarter_ = -1;  // last one that was printed
  clock::time_point drawn_{};
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace troupe::telemetry
