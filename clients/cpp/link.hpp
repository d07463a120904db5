// One connection: a DEALER socket, the thread that owns it, and the requests that wait for replies.
// Any thread may open, send and close; the socket is touched by the link's own thread only.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
#include <zmq.hpp>

#include "troupe/client.hpp"
#include "troupe/schemas/client_generated.h"

namespace troupe::client {

inline constexpr std::uint16_t spoken_version = 1;

// A verified ServerReply.
class reply {
 public:
  explicit reply(std::shared_ptr<const std::uint8_t[]> bytes) : bytes_(std::move(bytes)) {}
  const wire::ServerReply* operator->() const {
    return flatbuffers::GetRoot<wire::ServerReply>(bytes_.get());
  }

 private:
  std::shared_ptr<const std::uint8_t[]> bytes_;
};

// Where the replies to one request arrive.
class mailbox {
 public:
  void put(reply r);
  void fail(failure why);  // what was put before is still taken first

  // Nothing: the time is over. Throws what fail() was given.
  std::optional<reply> take(milliseconds timeout);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<reply> replies_;
  std::optional<failure> failure_;
};

class link {
 public:
  link(const std::string& endpoint, const connect_options& options);
  ~link();
  link(const link&) = delete;
  link& operator=(const link&) = delete;

  const std::string endpoint;
  const connect_options options;
  std::string server;  // set once, by connect()

  std::uint64_t next_id() { return last_id_.fetch_add(1) + 1; }

  // Sends a request whose replies go to `box`. Throws unavailable if the server is not there.
  void open(std::uint64_t id, std::shared_ptr<mailbox> box, flatbuffers::DetachedBuffer request);
  void send(flatbuffers::DetachedBuffer request);
  void forget(std::uint64_t id);  // later replies are dropped

  bool wait_connected(milliseconds timeout);

 private:
  void work();
  void read_events();
  bool read_replies();  // false: no more have arrived
  void deliver(const zmq::message_t& frame);
  bool write_requests();  // false: the socket takes no more now
  void wake();
  void fail_all(const failure& why);

  zmq::context_t context_{1};
  zmq::socket_t socket_;
  zmq::socket_t events_;
  int wake_fd_ = -1;
  std::atomic<std::uint64_t> last_id_{0};

  std::mutex mutex_;
  std::condition_variable connection_changed_;
  bool connected_ = false;
  bool closing_ = false;
  std::deque<flatbuffers::DetachedBuffer> outbox_;
  std::unordered_map<std::uint64_t, std::shared_ptr<mailbox>> open_;
  std::thread thread_;
};

}  // namespace troupe::client
