// The requests that are open: who asked, under which stream they run, which worker has them. Plain class, one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernel/base/ids.hpp"
#include "kernel/base/result.hpp"

namespace troupe::gateway {

struct session_limits {
  std::size_t open_requests = 4096;
  std::size_t open_requests_per_client = 128;
  std::size_t open_bytes = std::size_t{256} << 20;  // of all open requests
};

struct session {
  std::uint64_t stream = 0;
  std::string client;         // as the socket names it
  std::uint64_t request = 0;  // the client's id
  std::uint32_t choices = 0;  // of a Generate; 0 = another request
  std::size_t bytes = 0;      // of the request
  model_id model;
  int worker = -1;                  // in the model's pool; -1 = waits for one
  std::uint64_t last_reply_ns = 0;  // or receipt; steady clock
};

class session_table {
 public:
  explicit session_table(session_limits limits = {}) : limits_(limits) {}

  // Gives the session its stream, never given before. Errors: invalid_request (id 0, or already open), overloaded (which limit).
  // The pointer is valid until the session is closed.
  result<session*> open(session opened);
  session* find(std::uint64_t stream);
  session* find(std::string_view client, std::uint64_t request);
  void close(std::uint64_t stream);  // an unknown one is ignored

  std::vector<std::uint64_t> streams_of(std::string_view client) const;
  std::vector<std::uint64_t> streams_of(model_id model, int worker) const;
  std::vector<std::uint64_t> streams_of(model_id model) const;
  std::vector<std::uint64_t> streams() const;
  std::size_t size() const { return sessions_.size(); }
  bool empty() const { return sessions_.empty(); }

 private:
  using requests = std::map<std::uint64_t, std::uint64_t>;  // the client's id to stream

  session_limits limits_;
  std::uint64_t last_stream_ = 0;
  std::size_t bytes_ = 0;
  std::unordered_map<std::uint64_t, session> sessions_;
  std::map<std::string, requests, std::less<>> clients_;
};

}  // namespace troupe::gateway
