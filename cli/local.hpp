// Work on files, without a server: the installed modules and checkpoint folders.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "kernel/modules/modules.hpp"

namespace troupe::cli {

// The user's store of modules, with what the user trusts.
result<modules::store> open_store(const config::install_paths& paths);

// The modules that a command works with. Those that fail to load are in `broken`.
struct known_modules {
  modules::registry registry;
  std::vector<error> broken;
};
// The installed ones.
result<known_modules> load_modules(const config::install_paths& paths);
// The one of a library file and no other. Errors: as modules::store::load.
result<known_modules> load_module(const config::install_paths& paths, const std::string& file);
// The second where `file` is given (an option --module), else the first.
result<known_modules> load_modules_or(const config::install_paths& paths, const std::string& file);

// A path (one with a slash, or a folder that exists), or the name of a demo checkpoint. Errors: not_found
// with what would have been understood; bad_checkpoint if the folder has no config.json.
result<std::filesystem::path> find_model(const std::string& given, const config::install_paths& paths);

// A value of --model that means a folder and not the name of a model at a server: it has a slash, or is "."
// or "..".
bool means_folder(const std::string& given);

// Names of the demo checkpoints of this installation.
std::vector<std::string> demo_models(const config::install_paths& paths);

}  // namespace troupe::cli
