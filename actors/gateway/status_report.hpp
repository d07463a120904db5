// What the server says of its models and of itself. Plain functions over what was gathered.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "actors/deployment/catalogue.hpp"
#include "actors/host/prepared_model.hpp"
#include "actors/replies.hpp"
#include "troupe/schemas/actors_generated.h"

namespace troupe::gateway {

struct model_facts {
  prepared_model_ptr model;
  bool was_ready = false;  // at any time before
  bool closed = false;     // its last streams end
  deployment::served_model entry;
  std::size_t streams = 0;                                  // open
  std::optional<message<wire::SchedulerStatus>> scheduler;  // nothing: it did not answer
};

struct restart_count {
  std::string actor;
  std::uint32_t restarts = 0;
  std::string last_reason;
};

struct server_facts {
  std::string version;
  std::uint64_t uptime_ms = 0;
  std::uint32_t clients = 0;
  std::uint32_t open_requests = 0;
  std::uint64_t bad_frames = 0;
  std::optional<message<wire::CacheStatus>> cache;
  std::vector<model_facts> models;
  std::vector<restart_count> restarts;
  std::vector<deployment::operation> operations;  // under way
};

// loading: not ready yet; ready; recovering: was ready, is not now; closing: its name is not its own any more; draining, drained,
// asleep.
const char* state_of(const model_facts& m);

reply_message model_list_reply(std::uint64_t id, const std::vector<model_facts>& models);
reply_message status_reply(std::uint64_t id, const server_facts& server);

}  // namespace troupe::gateway
