// Sizes and durations with their units, and what only all keys together can tell.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <limits>
#include <set>
#include <system_error>
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

}  // namespace

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

bool is_local_endpoint(std::string_view endpoint) {
  if (endpoint.starts_with("ipc://")) return true;
  for (const std::string_view local : {"tcp://127.", "tcp://[::1]:", "tcp://localhost:"})
    if (endpoint.starts_with(local)) return true;
  return false;
}

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

std::uint64_t cache_section::block_for(std::uint64_t token_bytes) const {
  static constexpr std::uint64_t least = 64 << 10, tokens = 16;
  return block ? block->bytes : std::min(std::bit_ceil(std::max(least, tokens * token_bytes)), memory.bytes);
}

std::string name_of(const model_section& model) {
  if (!model.name.empty()) return model.name;
  std::error_code ignored;
  const auto folder = (std::filesystem::absolute(model.path, ignored) / "").lexically_normal().parent_path();
  return folder.has_filename() ? folder.filename().string() : folder.string();
}

result<void> check(const configuration& wanted) {
  for (const auto& endpoint : wanted.server.listen)
    if (!is_endpoint(endpoint))
      return fail(error_code::bad_config,
                  "server.listen: \"{}\" is no endpoint; expected tcp://address:port or ipc://path",
                  endpoint);
  const auto memory = wanted.cache.memory;
  const auto block = wanted.cache.block;
  if (block && block->bytes > memory.bytes)
    return fail(error_code::bad_config, "cache.block ({} bytes) is larger than cache.memory ({} bytes)",
                block->bytes, memory.bytes);
  if (block && memory.bytes / block->bytes > std::numeric_limits<std::uint32_t>::max())
    return fail(error_code::bad_config, "cache.memory holds more than 2^32 blocks; raise cache.block");
  if (wanted.scheduler.step_tokens < wanted.scheduler.max_sequences)
    return fail(
        error_code::bad_config,
        "scheduler.step_tokens ({}) is less than scheduler.max_sequences ({}): not every sequence could "
        "advance in a step",
        wanted.scheduler.step_tokens, wanted.scheduler.max_sequences);
  std::set<std::string> names;
  for (const auto& model : wanted.models) {
    const std::string name = name_of(model);
    if (!names.insert(name).second)
      return fail(error_code::bad_config, "two models are called \"{}\"; give one another name", name);
  }
  return {};
}

}  // namespace troupe::config
