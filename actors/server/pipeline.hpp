// Which actors a server runs. The list itself, with the reasons for its order, is pipeline.cpp.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "actors/gateway/zmq/zmq_door.hpp"
#include "actors/host/prepared_model.hpp"
#include "kernel/base/result.hpp"
#include "kernel/config/config.hpp"
#include "kernel/supervision/child_spec.hpp"
#include "kernel/supervision/roster.hpp"

namespace troupe {

// What the actors are made from; it outlives them all.
struct pipeline_parts {
  config::configuration config;
  std::vector<prepared_model_ptr> models;       // index = model id
  std::vector<std::filesystem::path> backends;  // the device's library; of several the first that opens
  std::shared_ptr<gateway::zmq_door> door;      // survives the gateway
  std::shared_ptr<supervision::roster> actors;  // restarts, for the server's status
  std::function<void(model_id, const result<void>&)> on_load;  // the outcome of each load, on a host's thread
  bool show_progress = false;
};

std::vector<supervision::child_spec> make_pipeline(const pipeline_parts& parts);

}  // namespace troupe
