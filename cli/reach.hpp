// The server that a command talks to: one at --endpoint, or one inside this process for a checkpoint folder.
#pragma once

#include <memory>
#include <string>
#include <troupe/client.hpp>

#include "cli/commands.hpp"

namespace troupe::cli {

// Rules: `model` is what --model says. A value with a slash (or "." or "..") is a checkpoint folder: it is loaded into
// this process and no server is needed. Anything else is the name of a model of the server at --endpoint; empty = its
// default model.
struct reached_server {
  std::shared_ptr<void> embedded;  // keeps a server inside this process alive; null for one elsewhere
  client::connection connection;   // destroyed before `embedded`
  std::string model;               // to ask for
};

// Errors: unavailable (no server there: says how to start one), bad_config (not an endpoint), and what a checkpoint
// folder can have wrong.
result<reached_server> reach(const context& shared, const std::string& model);

// The one at --endpoint, for commands that ask no model. Errors: unavailable, bad_config.
result<client::connection> reach_server(const context& shared);

error to_error(const client::failure& f);

}  // namespace troupe::cli
