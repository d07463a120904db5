#include "kernel/config/keys.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace troupe::config {

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

fs::path absolute_to(const fs::path& folder, const std::string& text) {
  if (text.empty()) return {};
  return (folder / text).lexically_normal();
}

bool has_no_blanks(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](unsigned char c) { return c <= ' ' || c == 0x7f; });
}

// Access: from the configuration to where the value goes, as a pointer.
template <class Access>
key flag(std::string_view section, std::string_view name, Access access) {
  return {section, name, "true or false", [access](configuration& into, const value& given, const fs::path&) {
            const auto* x = std::get_if<bool>(&given);
            if (x) *access(into) = *x;
            return x != nullptr;
          }};
}

template <class Access>
key number(std::string_view section, std::string_view name, std::uint32_t least, std::uint32_t most,
           Access access) {
  return {section, name, fmt::format("a whole number from {} to {}", least, most),
          [=](configuration& into, const value& given, const fs::path&) {
            const auto* x = std::get_if<std::int64_t>(&given);
            if (!x || *x < least || *x > most) return false;
            *access(into) = static_cast<std::uint32_t>(*x);
            return true;
          }};
}

// `range` says in words what least and most are.
template <class Access>
key size(std::string_view section, std::string_view name, std::uint64_t least, std::uint64_t most,
         std::string_view range, Access access) {
  return {section, name, fmt::format("a size such as \"64KiB\", {}", range),
          [=](configuration& into, const value& given, const fs::path&) {
            const auto* text = std::get_if<std::string>(&given);
            const auto x = text ? parse_size(*text) : std::nullopt;
            if (!x || x->bytes < least || x->bytes > most) return false;
            *access(into) = *x;
            return true;
          }};
}

template <class Access>
key duration(std::string_view section, std::string_view name, std::chrono::milliseconds most,
             std::string_view range, Access access) {
  return {section, name, fmt::format("a duration such as \"30s\", {}", range),
          [=](configuration& into, const value& given, const fs::path&) {
            const auto* text = std::get_if<std::string>(&given);
            const auto x = text ? parse_duration(*text) : std::nullopt;
            if (!x || *x > most) return false;
            *access(into) = *x;
            return true;
          }};
}

template <class Access>
key choice(std::string_view section, std::string_view name, std::vector<std::string> words, Access access) {
  return {section, name, fmt::format("one of {}", fmt::join(words, ", ")),
          [=](configuration& into, const value& given, const fs::path&) {
            const auto* x = std::get_if<std::string>(&given);
            if (!x || std::find(words.begin(), words.end(), *x) == words.end()) return false;
            *access(into) = *x;
            return true;
          }};
}

// The same, or "auto", which is none.
template <class Access>
key size_or_auto(std::string_view section, std::string_view name, std::uint64_t least, std::uint64_t most,
                 std::string_view range, Access access) {
  return {section, name, fmt::format("\"auto\" or a size such as \"64KiB\", {}", range),
          [=](configuration& into, const value& given, const fs::path&) {
            const auto* text = std::get_if<std::string>(&given);
            const auto x = text ? parse_size(*text) : std::nullopt;
            if (!(text && *text == "auto") && (!x || x->bytes < least || x->bytes > most)) return false;
            *access(into) = x;
            return true;
          }};
}

// A name without blanks.
template <class Access>
key word(std::string_view section, std::string_view name, Access access) {
  return {section, name, "a name without blanks (or empty)",
          [=](configuration& into, const value& given, const fs::path&) {
            const auto* x = std::get_if<std::string>(&given);
            if (!x || !has_no_blanks(*x)) return false;
            *access(into) = *x;
            return true;
          }};
}

// A part of a file's name: no blanks, no slashes.
template <class Access>
key file_word(std::string_view section, std::string_view name, Access access) {
  return {section, name, "a name without blanks and slashes",
          [=](configuration& into, const value& given, const fs::path&) {
            const auto* x = std::get_if<std::string>(&given);
            if (!x || x->empty() || !has_no_blanks(*x) || x->find('/') != x->npos) return false;
            *access(into) = *x;
            return true;
          }};
}

template <class Access>
key endpoints(std::string_view section, std::string_view name, Access access) {
  return {section, name,
          "a list of endpoints such as [\"tcp://127.0.0.1:7410\"]: tcp://address:port (port 0 or * = any "
          "free one) or "
          "ipc://path",
          [=](configuration& into, const value& given, const fs::path&) {
            const auto* x = std::get_if<std::vector<std::string>>(&given);
            if (!x || x->empty() || !std::all_of(x->begin(), x->end(), is_endpoint)) return false;
            *access(into) = *x;
            return true;
          }};
}

template <class Access>
key path(std::string_view section, std::string_view name, bool may_be_empty, Access access) {
  return {section, name, may_be_empty ? "a path in quotes (or empty)" : "a path in quotes",
          [=](configuration& into, const value& given, const fs::path& folder) {
            const auto* x = std::get_if<std::string>(&given);
            if (!x || (x->empty() && !may_be_empty)) return false;
            *access(into) = absolute_to(folder, *x);
            return true;
          }};
}

template <class Access>
key paths(std::string_view section, std::string_view name, Access access) {
  return {section, name, "a list of paths in quotes",
          [=](configuration& into, const value& given, const fs::path& folder) {
            const auto* x = std::get_if<std::vector<std::string>>(&given);
            if (!x) return false;
            std::vector<fs::path> made;
            for (const auto& text : *x) made.push_back(absolute_to(folder, text));
            *access(into) = std::move(made);
            return true;
          }};
}

}  // namespace

const std::vector<key>& all_keys() {
  using conf = configuration;
  static constexpr std::uint64_t KiB = 1024, MiB = KiB << 10, TiB = KiB << 30;
  static const std::vector<key> table = {
      endpoints("server", "listen", [](conf& x) { return &x.server.listen; }),
      duration("server", "drain", 24h, "0s to 24h", [](conf& x) { return &x.server.drain; }),
      path("server", "state", true, [](conf& x) { return &x.server.state; }),
      choice("log", "level", {"debug", "info", "warning", "error", "off"},
             [](conf& x) { return &x.log.level; }),
      choice("log", "format", {"text", "json"}, [](conf& x) { return &x.log.format; }),
      path("log", "file", true, [](conf& x) { return &x.log.file; }),
      flag("log", "colour", [](conf& x) { return &x.log.colour; }),
      file_word("device", "backend", [](conf& x) { return &x.device.backend; }),
      choice("device", "weights", {"bf16", "int8"}, [](conf& x) { return &x.device.weights; }),
      number("device", "threads", 0, 1024, [](conf& x) { return &x.device.threads; }),
      size("cache", "memory", MiB, 64 * TiB, "1MiB to 64TiB", [](conf& x) { return &x.cache.memory; }),
      size_or_auto("cache", "block", KiB, 1024 * MiB, "1KiB to 1GiB", [](conf& x) { return &x.cache.block; }),
      flag("cache", "prefix_cache", [](conf& x) { return &x.cache.prefix_cache; }),
      number("scheduler", "max_sequences", 1, 4096, [](conf& x) { return &x.scheduler.max_sequences; }),
      number("scheduler", "step_tokens", 1, 1 << 20, [](conf& x) { return &x.scheduler.step_tokens; }),
      number("scheduler", "queue_limit", 1, 1 << 20, [](conf& x) { return &x.scheduler.queue_limit; }),
      number("tokenizer", "workers", 1, 64, [](conf& x) { return &x.tokenizer.workers; }),
      number("limits", "open_requests_per_client", 1, 1 << 20,
             [](conf& x) { return &x.limits.open_requests_per_client; }),
      size("limits", "request", KiB, 64 * MiB, "1KiB to 64MiB", [](conf& x) { return &x.limits.request; }),
      number("limits", "outbox_messages", 16, 1 << 20, [](conf& x) { return &x.limits.outbox_messages; }),
      paths("modules", "folders", [](conf& x) { return &x.modules.folders; }),
      path("modules", "store", true, [](conf& x) { return &x.modules.store; }),
      path("modules", "trusted", true, [](conf& x) { return &x.modules.trusted; }),
      word("model", "name", [](conf& x) { return &x.models.back().name; }),
      path("model", "path", false, [](conf& x) { return &x.models.back().path; }),
      number("model", "max_context", 0, 1 << 24, [](conf& x) { return &x.models.back().max_context; }),
  };
  return table;
}

std::vector<std::string> known_keys() {
  std::vector<std::string> names;
  for (const key& k : all_keys()) names.push_back(fmt::format("{}.{}", k.section, k.name));
  return names;
}

}  // namespace troupe::config
