// Where an installed Troupe keeps its parts. The build tree has the same layout, so one rule serves both:
//   <prefix>/bin/troupe   <prefix>/lib/libtroupe-cpu.so   <prefix>/lib/troupe/modules/*.so
//   <prefix>/share/troupe/demo/mixtral-demo   <prefix>/share/troupe/default.toml
#pragma once

#include <filesystem>
#include <string_view>

namespace troupe::config {

struct install_paths {
  std::filesystem::path prefix;
  std::filesystem::path libraries;   // holds libtroupe-<device>.so
  std::filesystem::path modules;     // one .so per module
  std::filesystem::path share;       // default.toml, demo/
  std::filesystem::path demo_model;  // the checkpoint that is served when none is named
  // Content-addressed copies of modules, per user: $XDG_CACHE_HOME/troupe/modules, else ~/.cache/troupe/modules, else
  // troupe-modules-<user id> in the folder for temporary files.
  std::filesystem::path module_store;

  // Which modules with native ops may run in the server, per user: $XDG_CONFIG_HOME/troupe/trusted_modules, else
  // ~/.config/troupe/trusted_modules; empty = there is no home.
  std::filesystem::path trusted_modules;

  std::filesystem::path backend(std::string_view device) const;  // "cpu": libraries/libtroupe-cpu.so
};

// From the running program's own place; a folder lib/<architecture> beside bin is found too.
install_paths find_install();

// For a prefix that is known (tests: the build folder).
install_paths install_at(const std::filesystem::path& prefix);

}  // namespace troupe::config
