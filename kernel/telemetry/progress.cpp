#include "kernel/telemetry/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "kernel/base/text.hpp"

namespace troupe::telemetry {

namespace {

constexpr auto redraw_interval = std::chrono::milliseconds(100);

std::string amount(std::uint64_t done, std::uint64_t total) {
  if (total == 0) return human_bytes(done);
  const auto percent = static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total));
  return fmt::format("{:3}%  {} of {}", percent, human_bytes(done), human_bytes(total));
}

}  // namespace

progress::progress(std::string what, std::FILE* out, bool terminal)
    : what_(std::move(what)), out_(out), terminal_(terminal) {}

progress::progress(std::string what) : progress(std::move(what), stderr, isatty(STDERR_FILENO) == 1) {}

progress::~progress() {
  if (open_) std::fputc('\n', out_);
}

void progress::update(std::uint64_t done_bytes, std::uint64_t total_bytes, clock::time_point now) {
  done_ = done_bytes;
  total_ = total_bytes;
  if (terminal_) {
    if (open_ && now - drawn_ < redraw_interval) return;
    drawn_ = now;
    draw(done_bytes, total_bytes);
    return;
  }
  const int quarter = total_bytes == 0 ? 0 : static_cast<int>(done_bytes * 4 / total_bytes);
  if (quarter == quarter_ || quarter == 4) return;  // the end is finish()'s
  quarter_ = quarter;
  draw(done_bytes, total_bytes);
}

void progress::finish() {
  if (std::exchange(finished_, true)) return;
  draw(done_, total_);
  if (terminal_) std::fputc('\n', out_);
  open_ = false;
  std::fflush(out_);
}

void progress::draw(std::uint64_t done_bytes, std::uint64_t total_bytes) {
  const std::string line = fmt::format("{}  {}", what_, amount(done_bytes, total_bytes));
  if (terminal_) {
    fmt::print(out_, "\r\x1b[K{}", line);  // back to the first column, clear, draw
    open_ = true;
  } else {
    fmt::print(out_, "{}\n", line);
  }
  std::fflush(out_);
}

}  // namespace troupe::telemetry
