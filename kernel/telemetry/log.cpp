#include "kernel/telemetry/log.hpp"

#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <ctime>
#include <iterator>
#include <memory>
#include <mutex>

#include "kernel/base/text.hpp"

namespace troupe::log {

namespace {

constexpr std::array<const char*, 5> level_names = {"debug", "info", "warning", "error", "off"};

// What is in force. Replaced as a whole, so that a line is never written half in the old form.
struct output {
  level least = level::info;
  format form = format::text;
  std::shared_ptr<spdlog::logger> logger;
};

spdlog::level::level_enum to_spdlog(level at) {
  switch (at) {
    case level::debug:
      return spdlog::level::debug;
    case level::info:
      return spdlog::level::info;
    case level::warning:
      return spdlog::level::warn;
    case level::error:
      return spdlog::level::err;
    case level::off:
      break;
  }
  return spdlog::level::off;
}

spdlog::sink_ptr make_sink(const settings& wanted) {
  if (!wanted.file.empty()) return std::make_shared<spdlog::sinks::basic_file_sink_mt>(wanted.file.string());
  if (wanted.form == format::json || !wanted.colour) return std::make_shared<spdlog::sinks::stderr_sink_mt>();
  return std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>(spdlog::color_mode::automatic);
}

std::shared_ptr<const output> make_output(const settings& wanted) {
  auto made = std::make_shared<output>();
  made->least = wanted.least;
  made->form = wanted.form;
  made->logger = std::make_shared<spdlog::logger>("troupe", make_sink(wanted));
  made->logger->set_level(spdlog::level::trace);
  made->logger->flush_on(spdlog::level::trace);
  made->logger->set_pattern(wanted.form == format::json ? "%v" : "%Y-%m-%d %H:%M:%S.%e %^%-7l%$ %v");
  return made;
}

std::mutex replacing;
std::atomic<int> least_level = static_cast<int>(level::info);

std::shared_ptr<const output>& current() {
  static std::shared_ptr<const output> instance = make_output({});
  return instance;
}

std::shared_ptr<const output> in_force() {
  const std::lock_guard lock(replacing);
  return current();
}

bool plain(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return c > ' ' && c != '"' && c != '=' && c != '\\' && c != 0x7f;
  });
}

// JSON's escapes; they serve the text form as well. Bytes above 0x7f pass unchanged.
void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char raw : text) {
    const auto c = static_cast<unsigned char>(raw);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += raw;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < ' ' || c == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
    } else {
      out += raw;
    }
  }
  out += '"';
}

void append_value(std::string& out, const field& x, bool quote_always) {
  std::visit(
      [&](const auto& value) {
        using type = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<type, std::string_view>) {
          if (!quote_always && plain(value)) {
            out += value;
          } else {
            append_quoted(out, value);
          }
        } else if constexpr (std::is_same_v<type, double>) {
          if (quote_always && !std::isfinite(value)) {
            out += "null";
          } else {
            fmt::format_to(std::back_inserter(out), "{:.6g}", value);
          }
        } else {
          fmt::format_to(std::back_inserter(out), "{}", value);
        }
      },
      x.value);
}

// UTC with milliseconds: 2026-01-02T03:04:05.678Z
std::string utc_now() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  return fmt::format("{}.{:03}Z", text, ms);
}

}  // namespace

result<void> configure(const settings& wanted) {
  try {
    auto made = make_output(wanted);
    const std::lock_guard lock(replacing);
    current() = std::move(made);
    least_level = static_cast<int>(wanted.least);
    return {};
  } catch (const spdlog::spdlog_ex& problem) {
    return fail(error_code::not_found, "log file {} cannot be written: {}", wanted.file.string(),
                problem.what());
  }
}

result<level> parse_level(std::string_view name) {
  const auto found = std::find(level_names.begin(), level_names.end(), name);
  if (found != level_names.end()) return static_cast<level>(found - level_names.begin());
  const std::string near = nearest(name, level_names);
  return fail(error_code::bad_config, "\"{}\" is no log level{}; expected debug, info, warning, error or off",
              name, near.empty() ? "" : fmt::format(" (did you mean \"{}\"?)", near));
}

bool enabled(level at) {
  return static_cast<int>(at) >= least_level.load(std::memory_order_relaxed) && at != level::off;
}

void write(level at, std::string_view component, std::string_view sentence, fields values) {
  if (!enabled(at)) return;
  const auto out = in_force();
  if (out->form == format::json) {
    out->logger->log(to_spdlog(at),
                     spdlog::string_view_t(json_line(at, utc_now(), component, sentence, values)));
  } else {
    out->logger->log(to_spdlog(at), spdlog::string_view_t(text_line(component, sentence, values)));
  }
}

std::string text_line(std::string_view component, std::string_view sentence, fields values) {
  std::string line = fmt::format("{:<13} {}", component, sentence);
  if (values.size() != 0) line += ' ';
  for (const field& x : values) {
    line += ' ';
    line += x.key;
    line += '=';
    append_value(line, x, false);
  }
  return line;
}

std::string json_line(level at, std::string_view time, std::string_view component, std::string_view sentence,
                      fields values) {
  std::string line = "{\"time\":";
  append_quoted(line, time);
  line += ",\"level\":";
  append_quoted(line, level_names[static_cast<std::size_t>(at)]);
  line += ",\"component\":";
  append_quoted(line, component);
  line += ",\"message\":";
  append_quoted(line, sentence);
  for (const field& x : values) {
    line += ',';
    append_quoted(line, x.key);
    line += ':';
    append_value(line, x, true);
  }
  line += '}';
  return line;
}

}  // namespace troupe::log
