// A server inside this process, for a command that is given a checkpoint folder.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <troupe/client.hpp>

#include "cli/commands.hpp"

namespace troupe::cli {

struct embedded_server {
  std::shared_ptr<void> alive;  // the server stops with the last copy
  client::connection
      connection;  // the only one: its socket has no name any more, so nothing is left behind, however it ends
  std::string model;
};

// Returns when the model is ready. Errors: those of the checkpoint, its module, the backend. Throws client::failure.
result<embedded_server> start_embedded(const context& shared, const std::filesystem::path& model);

}  // namespace troupe::cli
