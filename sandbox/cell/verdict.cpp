#include "sandbox/cell/verdict.hpp"

#include <fmt/format.h>

namespace troupe::sandbox {

namespace {

constexpr std::size_t shown_output_bytes = 300;

}  // namespace

std::string_view name_of(verdict_kind kind) {
  static constexpr std::string_view names[] = {
      "crashed",         "timed out",   "out of memory", "forbidden call", "exited",
      "too much output", "bad library", "bad interface", "bad config",     "unsupported",
      "failed build",    "bad Program", "broken answer", "not started"};
  return names[static_cast<std::size_t>(kind)];
}

error to_error(const verdict& v, const std::string& file, const std::string& who) {
  const std::string& culprit = who.empty() ? file : who;
  switch (v.kind) {
    case verdict_kind::bad_config:
      return {error_code::bad_checkpoint, fmt::format("config.json: {} ({})", v.text, culprit)};
    case verdict_kind::unsupported:
      return {error_code::unsupported, fmt::format("config.json: {} ({})", v.text, culprit)};
    case verdict_kind::bad_program:
      return {error_code::bad_program, fmt::format("{}: {}", culprit, v.text)};
    case verdict_kind::not_started:
      return {error_code::internal, fmt::format("{}: cannot be looked at: {}", file, v.text)};
    default: {
      const std::string wrote = v.output.substr(0, shown_output_bytes);
      return {error_code::bad_module,
              fmt::format("{}: {}{}", culprit, v.text, wrote.empty() ? "" : "; it wrote: " + wrote)};
    }
  }
}

}  // namespace troupe::sandbox
