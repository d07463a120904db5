#include "kernel/config/paths.hpp"

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <system_error>

namespace troupe::config {

namespace fs = std::filesystem;

namespace {

// Module copies are per user: the folder of one user is never executed by another. In the folder for temporary files, where
// everybody may write, it stands alone: no folder above it is anybody's but the system's.
fs::path user_store() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache == '/')
    return fs::path(cache) / "troupe" / "modules";
  if (const char* home = std::getenv("HOME"); home && *home == '/')
    return fs::path(home) / ".cache" / "troupe" / "modules";
  std::error_code problem;
  const fs::path temporary = fs::temp_directory_path(problem);
  return (problem ? fs::path("/tmp") : temporary) / ("troupe-modules-" + std::to_string(geteuid()));
}

fs::path user_trust() {
  if (const char* config = std::getenv("XDG_CONFIG_HOME"); config && *config == '/')
    return fs::path(config) / "troupe" / "trusted_modules";
  if (const char* home = std::getenv("HOME"); home && *home == '/')
    return fs::path(home) / ".config" / "troupe" / "trusted_modules";
  return {};
}

// "lib", or what the distribution calls it ("lib/x86_64-linux-gnu").
fs::path library_folder(const fs::path& prefix) {
#ifdef TROUPE_LIBDIR
  if (std::error_code ignored; fs::exists(prefix / TROUPE_LIBDIR / "troupe", ignored))
    return prefix / TROUPE_LIBDIR;
#endif
  return prefix / "lib";
}

}  // namespace

fs::path install_paths::backend(std::string_view device) const {
  return libraries / ("libtroupe-" + std::string(device) + ".so");
}

install_paths install_at(const fs::path& prefix) {
  install_paths paths;
  paths.prefix = prefix;
  paths.libraries = library_folder(prefix);
  paths.modules = paths.libraries / "troupe" / "modules";
  paths.share = prefix / "share" / "troupe";
  paths.demo_model = paths.share / "demo" / "mixtral-demo";
  paths.module_store = user_store();
  paths.trusted_modules = user_trust();
  return paths;
}

install_paths find_install() {
  std::error_code problem;
  const fs::path program = fs::read_symlink("/proc/self/exe", problem);
  return install_at(problem ? fs::path("/usr/local") : program.parent_path().parent_path());
}

}  // namespace troupe::config
