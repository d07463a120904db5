// A client that sends what it likes, and reads replies one by one.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "actors/replies.hpp"
#include "kernel/frame/message.hpp"

namespace troupe::gateway::testing {

using namespace std::chrono_literals;

template <class Body>
std::vector<std::uint8_t> request_bytes(std::uint64_t id, Body body,
                                        std::uint16_t version = protocol_version) {
  wire::ClientRequestT r;
  r.version = version;
  r.id = id;
  r.body.Set(std::move(body));
  const auto m = message<wire::ClientRequest>::pack(r);
  return {m.bytes().begin(), m.bytes().end()};
}

inline wire::GenerateT generate_ids(std::vector<std::int32_t> ids, const std::string& model = {}) {
  wire::GenerateT g;
  g.model = model;
  wire::TokenPromptT prompt;
  prompt.ids = std::move(ids);
  g.prompt.Set(std::move(prompt));
  return g;
}

class raw_client {
 public:
  explicit raw_client(const std::string& endpoint, int receive_limit = 1000)
      : context_(std::make_unique<zmq::context_t>(1)), socket_(*context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvhwm, receive_limit);
    socket_.connect(endpoint);
  }
  // Its connection ends without a word, as a killed process's does.
  ~raw_client() {
    socket_.close();
    context_->close();
  }

  void send(std::span<const std::uint8_t> frame) {
    (void)socket_.send(zmq::buffer(frame.data(), frame.size()));
  }
  void send(const std::vector<std::string>& parts) {
    for (std::size_t i = 0; i < parts.size(); ++i)
      (void)socket_.send(zmq::buffer(parts[i]),
                         i + 1 < parts.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
  template <class Body>
  void ask(std::uint64_t id, Body body) {
    send(request_bytes(id, std::move(body)));
  }

  // The next reply that is not Alive; nothing if none comes in time.
  std::optional<reply_message> next(std::chrono::milliseconds timeout = 5s) {
    const auto end = std::chrono::steady_clock::now() + timeout;
    for (;;) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
      zmq::pollitem_t item{socket_.handle(), 0, ZMQ_POLLIN, 0};
      if (left.count() < 0 || zmq::poll(&item, 1, left) == 0) return std::nullopt;
      zmq::message_t frame;
      if (!socket_.recv(frame, zmq::recv_flags::dontwait)) continue;
      auto reply = reply_message::adopt_untrusted({frame.data<std::uint8_t>(), frame.size()});
      if (!reply) throw std::runtime_error("a reply that does not verify");
      if ((*reply)->body_type() == wire::ReplyBody::Alive) {
        ++alive;
        continue;
      }
      return *reply;
    }
  }
  // The error that comes next.
  std::pair<error_code, std::string> next_error() {
    auto r = next();
    const auto* e = r ? (*r)->body_as_Error() : nullptr;
    return e ? std::pair{e->code(), e->text()->str()}
             : std::pair{error_code::none, std::string("no error came")};
  }

  int alive = 0;

 private:
  std::unique_ptr<zmq::context_t> context_;
  zmq::socket_t socket_;
};

}  // namespace troupe::gateway::testing
