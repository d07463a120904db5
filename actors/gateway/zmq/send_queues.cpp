#include "actors/gateway/zmq/send_queues.hpp"

#include <utility>
#include <vector>

namespace troupe::gateway {
namespace {

constexpr std::size_t ends_per_message = 4;  // so many times the limit may wait as ends

bool may_be_dropped(const reply_message& r) {
  return r->body_type() == wire::ReplyBody::Chunk || r->body_type() == wire::ReplyBody::Alive;
}

reply_message too_slow(std::uint64_t id) {
  return error_reply(
      id, error_code::overloaded,
      "the client reads too slowly and some of its replies were dropped: read faster, or ask for less "
      "at once");
}

}  // namespace

send_queues::outcome send_queues::push(const std::string& client, reply_message reply) {
  if (!mend(client, reply)) return outcome::accepted;
  auto found = queues_.find(client);
  if (found == queues_.end()) {
    switch (send_(client, reply)) {
      case send_outcome::sent:
        return outcome::accepted;
      case send_outcome::unreachable:
        drop(client);
        return outcome::unreachable;
      case send_outcome::full:
        found = queues_.try_emplace(client).first;
    }
  }
  auto& q = found->second;
  append(q, std::move(reply));
  if (!is_full(q)) return outcome::accepted;
  make_room(client, q);
  if (q.replies.empty()) queues_.erase(found);
  return outcome::overflow;
}

// False: nothing is left to be sent.
bool send_queues::mend(const std::string& client, reply_message& reply) {
  auto found = torn_.find(client);
  if (found == torn_.end() || !found->second.contains(reply->id())) return true;
  if (may_be_dropped(reply)) return false;
  if (reply->body_type() == wire::ReplyBody::Final) reply = too_slow(reply->id());
  found->second.erase(reply->id());
  if (found->second.empty()) torn_.erase(found);
  return true;
}

void send_queues::append(queue& q, reply_message reply) const {
  if (q.replies.size() >= ends_per_message * limits_.messages) return;
  q.bytes += reply.bytes().size();
  q.replies.push_back(std::move(reply));
}

bool send_queues::is_full(const queue& q) const {
  return q.replies.size() > limits_.messages || q.bytes > limits_.bytes;
}

void send_queues::make_room(const std::string& client, queue& q) {
  ids torn;
  for (const auto& r : q.replies)
    if (r->body_type() == wire::ReplyBody::Chunk) torn.insert(r->id());
  queue kept;
  for (auto& r : q.replies) {
    if (may_be_dropped(r)) continue;
    if (r->body_type() == wire::ReplyBody::Final && torn.contains(r->id())) r = too_slow(r->id());
    if (r->body_type() == wire::ReplyBody::Final || r->body_type() == wire::ReplyBody::Error)
      torn.erase(r->id());
    append(kept, std::move(r));
  }
  q = std::move(kept);
  if (!torn.empty()) torn_[client].merge(torn);
  if (!is_full(q)) return;
  queue small;
  for (auto& r : q.replies)
    append(small, r->body_type() == wire::ReplyBody::Error ? std::move(r) : too_slow(r->id()));
  q = std::move(small);
}

void send_queues::retry(const std::function<void(const std::string& client)>& lost) {
  std::vector<std::string> unreachable;
  for (auto at = queues_.begin(); at != queues_.end();) {
    auto& [client, q] = *at;
    auto sent = send_outcome::sent;
    while (!q.replies.empty() && (sent = send_(client, q.replies.front())) == send_outcome::sent) {
      q.bytes -= q.replies.front().bytes().size();
      q.replies.pop_front();
    }
    if (sent == send_outcome::unreachable) unreachable.push_back(client);
    at = q.replies.empty() ? queues_.erase(at) : std::next(at);
  }
  for (const auto& client : unreachable) {
    drop(client);
    lost(client);
  }
}

void send_queues::drop(const std::string& client) {
  queues_.erase(client);
  torn_.erase(client);
}

}  // namespace troupe::gateway
