// Sizes and durations with their units, and what only all keys together can tell.
#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <set>
#include <utility>

#include "kernel/config/config.hpp"

namespace troupe::config {

namespace {

struct quantity {
  std::uint64_t amount = 0;
  std::string_view unit;
};

std::optional<quantity> split(std::string_view text) {
  quantity q;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), q.amount);
  if (problem != std::errc{} || end == text.data()) return std::nullopt;
  q.unit = text.substr(static_cast<std::size_t>(end - text.data()));
  while (!q.unit.empty() && q.unit.front() == ' ') q.unit.remove_prefix(1);
  return q;
}

template <std::size_t N>
std::optional<std::uint64_t> scale(const quantity& q,
                                   const std::array<std::pair<std::string_view, std::uint64_t>, N>& units) {
  for (const auto& [name, factor] : units) {
    if (q.unit != name) continue;
    if (q.amount > std::numeric_limits<std::int64_t>::max() / factor) return std::nullopt;
    return q.amount * factor;
  }
  return std::nullopt;
}

// tcp://address:port (port * = any free one) or ipc://path.
bool is_endpoint(std::string_view text) {
  if (text.starts_with("ipc://")) return text.size() > 6;
  if (!text.starts_with("tcp://")) return false;
  text.remove_prefix(6);
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const auto port = text.substr(colon + 1);
  if (port == "*") return true;
  std::uint32_t number = 0;
  const auto [end, problem] = std::from_chars(port.data(), port.data() + port.size(), number);
  return problem == std::errc{} && end == port.data() + port.size() && number <= 65535;
}

}  // namespace

std::optional<byte_count> parse_size(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, std::uint64_t>, 5> units = {
      {{"B", 1},
       {"KiB", 1024},
       {"MiB", 1024 << 10},
       {"GiB", 1024 << 20},
       {"TiB", std::uint64_t{1024} << 30}}};
  const auto q = split(text);
  const auto bytes = q ? scale(*q, units) : std::nullopt;
  if (!bytes) return std::nullopt;
  return byte_count{*bytes};
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, std::uint64_t>, 4> units = {
      {{"ms", 1}, {"s", 1000}, {"min", 60'000}, {"h", 3'600'000}}};
  const auto q = split(text);
  const auto ms = q ? scale(*q, units) : std::nullopt;
  if (!ms) return std::nullopt;
  return std::chrono::milliseconds(*ms);
}

result<void> check(const configuration& wanted) {
  for (const auto& endpoint : wanted.server.listen)
    if (!is_endpoint(endpoint))
      return fail(
          error_code::bad_config,
          "server.listen: \"{}\" is no endpoint; expected tcp://address:port (port 0 or * = any free one) or "
          "ipc://path",
          endpoint);
  if (wanted.cache.block.bytes > wanted.cache.memory.bytes)
    return fail(error_code::bad_config, "cache.block ({} bytes) is larger than cache.memory ({} bytes)",
                wanted.cache.block.bytes, wanted.cache.memory.bytes);
  if (wanted.cache.memory.bytes / wanted.cache.block.bytes > std::numeric_limits<std::uint32_t>::max())
    return fail(error_code::bad_config, "cache.memory holds more than 2^32 blocks; raise cache.block");
  if (wanted.scheduler.step_tokens < wanted.scheduler.max_sequences)
    return fail(error_code::bad_config,
                "scheduler.step_tokens ({}) is less than scheduler.max_sequences ({}): not every sequence "
                "could advance "
                "in a step",
                wanted.scheduler.step_tokens, wanted.scheduler.max_sequences);
  std::set<std::string> names;
  for (const auto& model : wanted.models) {
    const std::string name = model.name.empty() ? model.path.filename().string() : model.name;
    if (!names.insert(name).second)
      return fail(error_code::bad_config, "two models are called \"{}\"; give one another name", name);
  }
  return {};
}

}  // namespace troupe::config
