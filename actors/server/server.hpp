// A whole server in a process: models prepared, sockets open, actors running under a supervisor.
// The command `troupe serve` is a thin shell around it; tests and embedded use call it directly.
//
// Threads: start, drain_and_stop and the destructor are called by one thread; the others by any.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "actors/host/prepared_model.hpp"
#include "kernel/base/result.hpp"
#include "kernel/config/config.hpp"
#include "kernel/config/paths.hpp"
#include "kernel/modules/modules.hpp"
#include "kernel/supervision/roster.hpp"

namespace troupe {

struct server_options {
  config::configuration config;  // without models: the demo model
  config::install_paths paths;
  bool show_progress = false;  // of loading, on stderr
  // Called once, on some thread of the server, when an actor failed too often and all were stopped. May be empty.
  std::function<void(const std::string& why)> gave_up;
  // Asked to stop before all models are ready: start() ends with shutting_down as soon as it can. May have no state.
  std::stop_token stop;
};

class server {
 public:
  // Returns when every model is ready to answer. Errors: those of the configuration, of the modules that a model needs, of
  // each model's files (weights included), address_in_use; shutting_down if asked to stop. Nothing runs then.
  static result<std::unique_ptr<server>> start(server_options options);

  // Stops at once: what is open ends with shutting_down.
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  // Refuses new requests, lets open ones go on for `deadline`, ends the rest with shutting_down, stops all actors.
  // True = everything finished in time.
  bool drain_and_stop(std::chrono::milliseconds deadline);

  // Ends a drain that is under way, or begins and ends one.
  void stop_now();

  // After drain_and_stop: an actor did not end within its grace (in the middle of megabytes of text, say), and the destructor
  // would wait for it.
  bool is_stuck() const;
  // For a process that ends without the destructor: sends what clients are owed, removes the files of ipc endpoints.
  void close_endpoints();

  const std::vector<std::string>& endpoints() const;      // as bound: real ports
  const std::vector<prepared_model_ptr>& models() const;  // that it was started with
  const std::vector<error>& skipped_modules() const;  // files in the module folders that could not be loaded
  const supervision::roster& actors() const;          // who runs, restarts so far

 private:
  struct parts;
  explicit server(std::unique_ptr<parts> p);
  std::unique_ptr<parts> parts_;
};

}  // namespace troupe
