// The ZeroMQ front door: a ROUTER socket and the thread that owns it. It outlives the gateway actor, and so do the table of open
// requests and what clients are still to be sent. No actor framework in here.
//
//   in    each frame is verified; bad ones are counted and answered here, good ones wait in an inbox until the gateway takes
//         them. While nobody listens, or the inbox is full, frames stay in the socket and then at the clients. Requests
//         beyond the inbox's bytes are refused.
//   out   replies may be sent from any thread; their bytes are not copied. A client that does not read has a queue of its own; when
//         that is full its chunks are dropped and the gateway is told that it is slow.
//   gone  a client whose connection ends is told to the gateway at once: the socket's monitor says which file descriptor was
//         closed, and each frame said from which one it came. Whoever slips through (the frame was read behind that news) is found by
//         the next reply to it: the socket knows no such peer.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/gateway/request_reader.hpp"
#include "actors/gateway/session_table.hpp"
#include "actors/replies.hpp"

namespace troupe::gateway {

struct door_options {
  std::vector<std::string> endpoints;  // tcp://host:port (port * or 0 = any free one), ipc:///path
  std::size_t max_request_bytes = std::size_t{8} << 20;
  // A slow client may leave so much unread, beside the socket's own buffer ...
  std::size_t outbox_messages = 4096;
  std::size_t outbox_bytes = std::size_t{64} << 20;
  int socket_messages = 1000;  // ... which holds this, per client
  std::size_t inbox_messages = 4096;
  std::size_t inbox_bytes = std::size_t{128} << 20;     // requests beyond it are refused: overloaded
  std::chrono::milliseconds heartbeat{10'000};          // a ping to silent connections ...
  std::chrono::milliseconds heartbeat_timeout{30'000};  // ... that are closed when nothing comes for so long
  std::chrono::milliseconds linger{1000};               // how long closing waits for replies to leave
  std::chrono::milliseconds beat{200};                  // the listener is woken at least that often
  session_limits limits;
};

// The steady clock in nanoseconds, as arrivals are stamped.
std::uint64_t steady_ns();

// What the door tells the gateway.
struct arrival {
  enum class what {
    request,  // of `client`
    gone,     // the client cannot be reached any more
    suspect,  // it may be gone: send something to find out
    slow      // does not read; what it was owed has been dropped
  };
  what kind = what::request;
  std::string client;
  request_message request;
  std::uint64_t received_ns = 0;  // steady clock
};

class zmq_door {
 public:
  virtual ~zmq_door() = default;  // closes, and waits until what is owed has been sent, for at most `linger`

  // Takes and sends nothing more behind what it was given so far; removes the files of ipc endpoints. Any thread, and more than once.
  virtual void close() {}

  virtual const std::vector<std::string>& endpoints() const = 0;  // as bound, with real ports

  // `wake` is called, on the door's thread, when something has arrived, and every `beat`. It must not block, nor call listen
  // or unlisten. Replaces the listener before; answers a number for unlisten(). What the inbox holds stays.
  virtual std::uint64_t listen(std::function<void()> wake) = 0;
  virtual void unlisten(std::uint64_t listener) = 0;  // one that was replaced already is ignored

  virtual std::optional<arrival> take() = 0;  // any thread
  // (client, reply); any thread
  virtual void send(std::vector<std::pair<std::string, reply_message>> replies) = 0;

  virtual std::uint64_t bad_frames() const = 0;  // any thread
  virtual std::uint32_t clients() const = 0;     // open connections; any thread

  std::uint64_t opened_ns() const { return opened_ns_; }  // steady clock

  // The open requests. For the listening gateway only.
  session_table& sessions() { return sessions_; }

 protected:
  explicit zmq_door(session_limits limits) : sessions_(limits) {}

 private:
  std::uint64_t opened_ns_ = steady_ns();
  session_table sessions_;
};

// Binds before anything else runs. Errors: address_in_use, bad_config (not an endpoint, no such host or folder, no permission).
result<std::shared_ptr<zmq_door>> open_zmq_door(const door_options& options);

}  // namespace troupe::gateway
