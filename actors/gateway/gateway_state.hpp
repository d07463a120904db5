// What the gateway actor knows and does, for its two files: gateway_requests.cpp is what clients ask for; gateway.cpp is
// the rest (peers, workers, replies, housekeeping). The actor's contract: gateway.hpp.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>
#include <deque>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/gateway/gateway.hpp"
#include "actors/gateway/request_reader.hpp"
#include "actors/gateway/worker_pools.hpp"

namespace troupe::gateway {

// Of sessions that the deployer answers; no instance has this number.
inline constexpr model_id no_model{std::numeric_limits<std::uint32_t>::max()};

using vacate_promise = caf::typed_response_promise<std::uint32_t, std::uint32_t>;

struct served {
  explicit served(const deployment::served_model& m)
      : model(m.model), entry(m), workers(std::max(m.workers, 1U)) {}
  prepared_model_ptr model;
  deployment::served_model entry;  // as the catalogue has it
  worker_pool<tokenizer_actor> workers;
  scheduler_actor scheduler;
  bool was_ready = false;
  bool closed = false;  // no client can ask for it any more
  bool takes_requests() const { return !closed && entry.resting.empty(); }
  std::optional<vacate_promise> vacated;
  std::uint64_t vacate_end_ns = 0;  // 0 = no end
  std::uint32_t streams_to_leave = 0;
};

// A request that waits for a worker of its model.
struct parked {
  std::uint64_t stream = 0;
  request_message request;
  std::uint64_t received_ns = 0;
};

// A stream of the gateway before, to be dropped by whoever still works on it.
struct orphan {
  std::uint64_t stream = 0;
  model_id model;
  int worker = -1;
};

// A ServerStatus or ListModels that waits for its answer.
struct inquiry {
  std::string client;
  std::uint64_t id = 0;
  bool whole_server = false;
};

// What schedulers and the cache manager say of themselves, for all that have asked before it began.
struct gathering {
  std::vector<inquiry> askers;
  std::size_t open = 1;  // answers that are still to come, and one for the asking itself
  std::vector<model_facts> models;
  std::optional<message<wire::CacheStatus>> cache;
};

struct gateway_state {
  static inline const char* name = "gateway";
  ~gateway_state() {
    if (options.door) options.door->unlisten(listener);
  }

  gateway_actor::pointer self = nullptr;
  gateway_options options;
  std::uint64_t listener = 0;
  std::list<served> models;  // in the order of the catalogue; closed ones until they are vacated
  cache_manager_actor cache_manager;
  deployer_actor deployer;
  std::deque<parked> waiting;
  std::vector<orphan> orphans;
  std::vector<inquiry> questions;        // since the gathering began
  std::shared_ptr<gathering> under_way;  // one at a time: its answers are found among the requests of all
  std::map<std::string, std::size_t> inquiries;  // by client, of both
  bool more_arrivals = false;                    // a tick to itself is under way
  bool draining = false;
  bool stopping = false;
  std::uint64_t drain_end_ns = 0;
  std::optional<caf::typed_response_promise<bool>> drained;
  std::uint64_t next_housekeeping_ns = 0;
  std::uint32_t turns = 0;  // of requests that were shared between two instances

  session_table& sessions() const { return options.door->sessions(); }

  // start and peers
  void start();
  void end_what_was_open();
  void meet(const std::string& id, const caf::strong_actor_ptr& peer);
  void meet_for(served& m, const std::string& id, const caf::strong_actor_ptr& peer);
  void meet_worker(served& m, std::uint32_t worker, const caf::strong_actor_ptr& peer);
  void lose(const caf::actor_addr& who);

  // the catalogue
  void follow_catalogue();
  void open_model(const deployment::served_model& m);
  caf::result<std::uint32_t, std::uint32_t> vacate(model_id model, std::uint64_t deadline_ms);
  void finish_vacating(bool overdue_too);
  served* find_instance(model_id model);

  // from clients
  void tick(bool own);
  bool take_arrivals(std::size_t at_most);  // true: that many were there
  void arrive(const std::string& client, const request_message& request, std::uint64_t received_ns);
  void open(const std::string& client, const request_message& request, std::uint64_t received_ns,
            const flatbuffers::String* model, std::uint32_t choices);
  void open_for_operator(const std::string& client, const request_message& request,
                         std::uint64_t received_ns);
  void cancel(const std::string& client, std::uint64_t target);
  void drop_client(const std::string& client);
  void end_slow_client(const std::string& client);
  void probe(const std::string& client);
  void inquire(const std::string& client, std::uint64_t id, bool whole_server);
  void gather();
  void report(gathering& g);
  void forget_inquiry(const std::string& client);

  // to workers
  bool hand_over(const session& s, const request_message& request, std::uint64_t received_ns);
  void abandon(const session& s, error_code why);
  void retry_waiting();

  // to clients
  void forward(const outgoing_batch& batch);
  void reply(const std::string& client, reply_message r);
  void end(std::uint64_t stream, error_code code, std::string_view text);
  void refuse_to_start(const std::string& client, std::uint64_t id);

  // housekeeping
  void keep_house();
  void close(std::uint64_t stream);
  void finish_drain_if_empty();
  caf::result<bool> drain(std::uint64_t deadline_ms);
  void cut_drain();
  void shut_down();

  served* find_model(const std::string& client, const flatbuffers::String* asked);
  error not_served(const flatbuffers::String* asked) const;
};

}  // namespace troupe::gateway
