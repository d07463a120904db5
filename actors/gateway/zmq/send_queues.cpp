#include "actors/gateway/zmq/send_queues.hpp"

#include <algorithm>
#include <vector>

namespace troupe::gateway {
namespace {

bool may_be_dropped(const reply_message& r) {
  return r->body_type() == wire::ReplyBody::Chunk || r->body_type() == wire::ReplyBody::Alive;
}

}  // namespace

send_queues::outcome send_queues::push(const std::string& client, reply_message reply) {
  auto found = queues_.find(client);
  if (found == queues_.end()) {
    switch (send_(client, reply)) {
      case send_outcome::sent:
        return outcome::accepted;
      case send_outcome::unreachable:
        return outcome::unreachable;
      case send_outcome::full:
        found = queues_.try_emplace(client).first;
    }
  }
  auto& queue = found->second;
  queue.push_back(std::move(reply));
  if (queue.size() <= limit_) return outcome::accepted;
  std::erase_if(queue, may_be_dropped);
  if (queue.size() > limit_) queue.clear();
  if (queue.empty()) queues_.erase(found);
  return outcome::overflow;
}

void send_queues::retry(const std::function<void(const std::string& client)>& lost) {
  std::vector<std::string> unreachable;
  for (auto at = queues_.begin(); at != queues_.end();) {
    auto& [client, queue] = *at;
    auto sent = send_outcome::sent;
    while (!queue.empty() && (sent = send_(client, queue.front())) == send_outcome::sent) queue.pop_front();
    if (sent == send_outcome::unreachable) unreachable.push_back(client);
    if (queue.empty() || sent == send_outcome::unreachable)
      at = queues_.erase(at);
    else
      ++at;
  }
  for (const auto& client : unreachable) lost(client);
}

}  // namespace troupe::gateway
