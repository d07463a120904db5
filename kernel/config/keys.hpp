// The one table of configuration keys: what each is called, what it takes and where it goes. The parser, the
// overrides of the command line and the check of default.toml all read it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernel/config/config.hpp"

namespace troupe::config {

// A TOML value of one of the kinds that some key takes; monostate = any other kind.
using value = std::variant<std::monostate, bool, std::int64_t, double, std::string, std::vector<std::string>>;

struct key {
  std::string_view section;  // "model": one of [[model]], goes into models.back()
  std::string_view name;
  std::string expects;  // "a duration such as \"30s\", 0s to 24h"
  // False = not what is expected; `into` is unchanged then. Relative paths are taken from `folder`.
  std::function<bool(configuration& into, const value& given, const std::filesystem::path& folder)> set;
};

const std::vector<key>& all_keys();

}  // namespace troupe::config
