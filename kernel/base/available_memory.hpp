// How much memory the system can still give to this process.
#pragma once

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

namespace troupe {

namespace available {

// The number behind `key` in a file of lines "key number ...".
inline std::optional<std::uint64_t> number_behind(const std::string& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string word; in >> word; in.ignore(256, '\n')) {
    std::uint64_t number = 0;
    if (word == key && in >> number) return number;
  }
  return std::nullopt;
}

inline std::optional<std::uint64_t> number_in(const std::string& file) {
  std::ifstream in(file);
  std::uint64_t number = 0;
  return in >> number ? std::optional(number) : std::nullopt;  // "max" = no limit
}

// What the control group of this process leaves it; nothing: it has no limit. Files that are cached count as free, as in MemAvailable.
inline std::optional<std::uint64_t> in_group() {
  std::string path;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);)
    if (line.rfind("0::", 0) == 0) path = line.substr(3);
  for (const std::string& folder : {"/sys/fs/cgroup" + path, std::string("/sys/fs/cgroup")}) {
    const auto limit = number_in(folder + "/memory.max"), used = number_in(folder + "/memory.current");
    if (!limit || !used) continue;
    const auto stat = folder + "/memory.stat";
    const auto cached =
        number_behind(stat, "inactive_file").value_or(0) + number_behind(stat, "active_file").value_or(0);
    const auto held = *used - std::min(*used, cached);
    return *limit - std::min(*limit, held);
  }
  return std::nullopt;
}

}  // namespace available

// What can be had without swapping; nothing if the system does not say.
inline std::optional<std::uint64_t> available_memory() {
  auto bytes = available::number_behind("/proc/meminfo", "MemAvailable:");
  if (bytes) *bytes <<= 10;
  const auto group = available::in_group();
  if (bytes && group) return std::min(*bytes, *group);
  return bytes ? bytes : group;
}

}  // namespace troupe
