// Which actors a server runs. The list itself, with the reasons for its order, is pipeline.cpp.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "actors/deployment/deployer.hpp"
#include "actors/gateway/zmq/zmq_door.hpp"
#include "actors/host/prepared_model.hpp"
#include "actors/server/backend_choice.hpp"
#include "kernel/base/result.hpp"
#include "kernel/config/config.hpp"
#include "kernel/supervision/child_spec.hpp"
#include "kernel/supervision/roster.hpp"

namespace troupe {

// What the actors are made from; it outlives them all.
struct pipeline_parts {
  config::configuration config;
  std::vector<prepared_model_ptr> models;  // that the server starts with; index = model id
  std::shared_ptr<deployment::book> book;  // what is intended, what is under way
  std::shared_ptr<deployment::jobs> jobs;
  deployment::catalogue_ptr catalogue;  // what clients can ask for
  // See deployer_options.
  std::function<result<deployment::staged>(const model_request&)> stage;
  std::function<result<deployment::staged>(const model_request&)> prepare;
  std::function<result<deployment::staged>(const deployment::candidate_request&)> prepare_candidate;
  std::function<void()> after_operation;
  std::shared_ptr<backend_choice> backend;                     // the device's library
  std::shared_ptr<gateway::zmq_door> door;                     // survives the gateway
  std::shared_ptr<supervision::roster> actors;                 // restarts, for the server's status
  std::function<void(model_id, const result<void>&)> on_load;  // the outcome of each load, on a host's thread
  bool show_progress = false;
};

// `parts` outlive the actors.
std::vector<supervision::child_spec> make_pipeline(const pipeline_parts& parts);

}  // namespace troupe
