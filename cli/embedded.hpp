// A server inside this process, for a command that is given a checkpoint folder.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cli/commands.hpp"

namespace troupe::cli {

struct embedded_server {
  std::shared_ptr<void> alive;  // the server stops with the last copy
  std::string endpoint;         // ipc, in a folder that only this user can enter
  std::string model;
};

// Returns when the model is ready. Errors: those of the checkpoint, its module, the backend.
result<embedded_server> start_embedded(const context& shared, const std::filesystem::path& model);

}  // namespace troupe::cli
