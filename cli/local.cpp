#include "cli/local.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "kernel/base/text.hpp"

namespace troupe::cli {
namespace fs = std::filesystem;

result<modules::store> open_store(const config::install_paths& paths) {
  auto trusted = modules::load_trust(paths.modules, paths.trusted_modules);
  if (!trusted) return fail(std::move(trusted.error()));
  return modules::store::open(paths.module_store, {.trusted = std::move(*trusted)});
}

result<known_modules> load_modules(const config::install_paths& paths) {
  auto store = open_store(paths);
  if (!store) return fail(store.error());
  known_modules out;
  out.broken = out.registry.add_folder(*store, paths.modules);
  return out;
}

result<known_modules> load_module(const config::install_paths& paths, const std::string& file) {
  auto store = open_store(paths);
  if (!store) return fail(store.error());
  auto module = store->load(file);
  if (!module) return fail(module.error());
  known_modules out;
  out.registry.add(std::move(*module));
  return out;
}

result<known_modules> load_modules_or(const config::install_paths& paths, const std::string& file) {
  return file.empty() ? load_modules(paths) : load_module(paths, file);
}

bool means_folder(const std::string& given) {
  return given.find('/') != std::string::npos || given == "." || given == "..";
}

std::vector<std::string> demo_models(const config::install_paths& paths) {
  std::vector<std::string> out;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(paths.share / "demo", ignored))
    if (fs::exists(entry.path() / "config.json", ignored)) out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

result<fs::path> find_model(const std::string& given, const config::install_paths& paths) {
  std::error_code ignored;
  if (fs::is_directory(given, ignored)) {
    if (!fs::exists(fs::path(given) / "config.json", ignored))
      return fail(error_code::bad_checkpoint,
                  "{}: no config.json there: expected a checkpoint folder in Hugging Face format", given);
    return fs::path(given);
  }
  if (fs::exists(given, ignored))
    return fail(error_code::not_found, "{}: is a file; expected a checkpoint folder", given);
  const auto demos = demo_models(paths);
  if (std::find(demos.begin(), demos.end(), given) != demos.end()) return paths.share / "demo" / given;
  const std::string near = means_folder(given) ? "" : nearest(given, demos);
  return fail(error_code::not_found, "{}: no such folder{}{}", given,
              near.empty() ? "" : fmt::format(" (did you mean {}?)", near),
              demos.empty()
                  ? std::string()
                  : fmt::format("; expected a checkpoint folder or one of {}", fmt::join(demos, ", ")));
}

}  // namespace troupe::cli
