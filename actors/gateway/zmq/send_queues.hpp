// What clients that do not read are owed. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "actors/replies.hpp"

namespace troupe::gateway {

enum class send_outcome { sent, full, unreachable };

struct queue_limits {  // per client
  std::size_t messages = 4096;
  std::size_t bytes = std::size_t{64} << 20;
};

class send_queues {
 public:
  using sender = std::function<send_outcome(const std::string& client, const reply_message& reply)>;

  // `send` tries once and does not wait.
  send_queues(sender send, queue_limits limits) : send_(std::move(send)), limits_(limits) {}

  enum class outcome {
    accepted,    // sent, or it will be
    overflow,    // accepted, but chunks were dropped to make room: the client is too slow
    unreachable  // no such client; what it was owed is dropped
  };
  // A stream that has lost a chunk gets no other, and ends in `overloaded` even if its Final is there already. Ends are
  // kept beyond the limit, those with much in them as `overloaded`; only a client that goes on asking without reading, up
  // to four times the limit, loses the latest.
  outcome push(const std::string& client, reply_message reply);

  // Tries again. Calls `lost` for clients that have become unreachable.
  void retry(const std::function<void(const std::string& client)>& lost);
  void drop(const std::string& client);
  bool empty() const { return queues_.empty(); }

 private:
  struct queue {
    std::deque<reply_message> replies;  // not empty
    std::size_t bytes = 0;
  };
  using ids = std::unordered_set<std::uint64_t>;

  bool mend(const std::string& client, reply_message& reply);
  void append(queue& q, reply_message reply) const;
  bool is_full(const queue& q) const;
  void make_room(const std::string& client, queue& q);

  sender send_;
  queue_limits limits_;
  std::unordered_map<std::string, queue> queues_;
  std::unordered_map<std::string, ids> torn_;  // streams that have lost chunks and whose end has not come
};

}  // namespace troupe::gateway
