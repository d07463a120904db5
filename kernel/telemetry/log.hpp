// Structured logs: one line per event, a component, a fixed sentence and key=value fields.
//
//   log::info("executor", "model loaded", {{"model", name}, {"bytes", n}});
//   2026-01-31 12:00:01.234 info    executor      model loaded  model=mixtral bytes=15698432
//
// Fixed sentences make lines countable; what varies goes into fields. Any thread may log. Before configure()
// lines of level info and above go to stderr as text. The logging library is included in log.cpp only.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "kernel/base/result.hpp"

namespace troupe::log {

enum class level { debug, info, warning, error, off };

enum class format { text, json };

struct settings {
  level least = level::info;   // lines below it are dropped
  format form = format::text;  // text: colour only on a terminal; json: one object per line
  std::filesystem::path file;  // empty = stderr; appended to otherwise
  bool colour = true;          // false = never
};

// Replaces the settings of the whole process. Error: not_found (the file cannot be written); the old ones stay then.
result<void> configure(const settings& wanted);

// "debug", "info", "warning", "error", "off". Error: bad_config with the nearest name.
result<level> parse_level(std::string_view name);

// A key and a value, borrowed for the call.
struct field {
  std::string_view key;
  std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool> value;

  template <class T>
  field(std::string_view k, const T& v) : key(k), value(convert(v)) {}

 private:
  template <class T>
  static decltype(value) convert(const T& v) {
    if constexpr (std::same_as<T, bool>) {
      return v;
    } else if constexpr (std::floating_point<T>) {
      return static_cast<double>(v);
    } else if constexpr (std::is_enum_v<T> || std::signed_integral<T>) {
      return static_cast<std::int64_t>(v);
    } else if constexpr (std::unsigned_integral<T>) {
      return static_cast<std::uint64_t>(v);
    } else {
      return std::string_view(v);
    }
  }
};
using fields = std::initializer_list<field>;

bool enabled(level at);
void write(level at, std::string_view component, std::string_view sentence, fields values = {});

inline void debug(std::string_view component, std::string_view sentence, fields values = {}) {
  if (enabled(level::debug)) write(level::debug, component, sentence, values);
}
inline void info(std::string_view component, std::string_view sentence, fields values = {}) {
  write(level::info, component, sentence, values);
}
inline void warning(std::string_view component, std::string_view sentence, fields values = {}) {
  write(level::warning, component, sentence, values);
}
inline void error(std::string_view component, std::string_view sentence, fields values = {}) {
  write(level::error, component, sentence, values);
}

// One event as a line without its end; what write() puts out. Exposed for tests and for other sinks.
std::string text_line(std::string_view component, std::string_view sentence, fields values);
std::string json_line(level at, std::string_view time, std::string_view component, std::string_view sentence,
                      fields values);

}  // namespace troupe::log
