#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

#include "cli/commands.hpp"

namespace troupe::cli {

namespace {

void print_error(std::string_view text) {
  const char* no_colour = std::getenv("NO_COLOR");
  const bool colour = isatty(STDERR_FILENO) == 1 && !(no_colour && *no_colour);
  fmt::print(stderr, "troupe: {} {}\n", colour ? "\x1b[1;31merror:\x1b[0m" : "error:", text);
}

}  // namespace

exit_status status_of(error_code code) {
  switch (code) {
    case error_code::none:
      return exit_ok;
    case error_code::invalid_request:
    case error_code::unknown_model:
    case error_code::context_exceeded:
    case error_code::template_failed:
    case error_code::not_found:
    case error_code::bad_config:
    case error_code::bad_checkpoint:
    case error_code::bad_module:
    case error_code::bad_program:
    case error_code::unknown_architecture:
      return exit_usage;
    default:
      return exit_failed;
  }
}

int report(const error& e) {
  print_error(e.text);
  return status_of(e.code);
}

int report_usage(std::string_view text) {
  print_error(text);
  return exit_usage;
}

}  // namespace troupe::cli
