// What clients that do not read are owed. One thread.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <unordered_map>

#include "actors/replies.hpp"

namespace troupe::gateway {

enum class send_outcome { sent, full, unreachable };

class send_queues {
 public:
  using sender = std::function<send_outcome(const std::string& client, const reply_message& reply)>;

  // `send` tries once and does not wait. `limit`: messages per client.
  send_queues(sender send, std::size_t limit) : send_(std::move(send)), limit_(limit) {}

  enum class outcome {
    accepted,    // sent, or it will be
    overflow,    // accepted, but the client's chunks were dropped to make room: it is too slow
    unreachable  // no such client; what it was owed is dropped
  };
  outcome push(const std::string& client, reply_message reply);

  // Tries again. Calls `lost` for clients that have become unreachable.
  void retry(const std::function<void(const std::string& client)>& lost);
  void drop(const std::string& client) { queues_.erase(client); }
  bool empty() const { return queues_.empty(); }

 private:
  sender send_;
  std::size_t limit_;
  std::unordered_map<std::string, std::deque<reply_message>> queues_;  // none of them empty
};

}  // namespace troupe::gateway
