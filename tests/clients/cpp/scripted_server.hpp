// A ROUTER socket that answers as it is told, on a thread of its own.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "troupe/schemas/client_generated.h"

namespace troupe::client::testing {

class scripted_server {
 public:
  // Sends a reply to the client that asked.
  using answer = std::function<void(std::uint64_t id, wire::ReplyBodyUnion body)>;
  using script = std::function<void(const wire::ClientRequest& request, const answer& reply)>;

  explicit scripted_server(script s, const std::string& endpoint = "tcp://127.0.0.1:*")
      : script_(std::move(s)), socket_(context_, zmq::socket_type::router) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.bind(endpoint);
    endpoint_ = socket_.get(zmq::sockopt::last_endpoint);
    thread_ = std::thread([this] { work(); });
  }
  ~scripted_server() {
    stop_ = true;
    thread_.join();
    socket_.set(zmq::sockopt::linger, linger.load());
  }

  const std::string& endpoint() const { return endpoint_; }

  // What was asked so far, by type.
  int heard(wire::RequestBody type) {
    std::lock_guard lock(mutex_);
    return heard_[type];
  }
  bool wait_heard(wire::RequestBody type, int count = 1) {
    for (int i = 0; i < 1000; ++i) {
      if (heard(type) >= count) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

 private:
  void work() {
    while (!stop_) {
      zmq::pollitem_t item{socket_.handle(), 0, ZMQ_POLLIN, 0};
      if (zmq::poll(&item, 1, std::chrono::milliseconds(10)) == 0) continue;
      zmq::message_t client, frame;
      (void)socket_.recv(client);
      (void)socket_.recv(frame);
      const std::string bytes = frame.to_string();
      const auto* request = flatbuffers::GetRoot<wire::ClientRequest>(bytes.data());
      {
        std::lock_guard lock(mutex_);
        ++heard_[request->body_type()];
      }
      const answer reply = [&](std::uint64_t id, wire::ReplyBodyUnion body) {
        wire::ServerReplyT r;
        r.version = 1;
        r.id = id;
        r.body = std::move(body);
        flatbuffers::FlatBufferBuilder b;
        b.Finish(wire::ServerReply::Pack(b, &r));
        (void)socket_.send(zmq::message_t(client.data(), client.size()), zmq::send_flags::sndmore);
        (void)socket_.send(zmq::buffer(b.GetBufferPointer(), b.GetSize()));
      };
      if (request->body_type() == wire::RequestBody::Hello && greets) {
        wire::WelcomeT welcome;
        welcome.version = 1;
        welcome.server = "scripted 1";
        wire::ReplyBodyUnion body;
        body.Set(std::move(welcome));
        reply(request->id(), std::move(body));
      } else {
        script_(*request, reply);
      }
    }
  }

 public:
  std::atomic<bool> greets{true};
  std::atomic<int> linger{0};  // ms; for what has been said when it ends

 private:
  script script_;
  zmq::context_t context_{1};
  zmq::socket_t socket_;
  std::string endpoint_;
  std::mutex mutex_;
  std::map<wire::RequestBody, int> heard_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

template <class Table>
wire::ReplyBodyUnion body(Table t) {
  wire::ReplyBodyUnion u;
  u.Set(std::move(t));
  return u;
}

inline wire::ReplyBodyUnion chunk_of(const std::string& text, std::uint32_t choice = 0) {
  wire::ChunkT c;
  c.text = text;
  c.choice = choice;
  return body(std::move(c));
}

inline wire::ReplyBodyUnion final_of(wire::FinishReason finish, std::uint32_t tokens = 3) {
  wire::FinalT f;
  f.choices.push_back(std::make_unique<wire::ChoiceEndT>());
  f.choices.back()->finish = finish;
  f.choices.back()->seed = 99;
  f.usage = std::make_unique<wire::UsageT>();
  f.usage->generated_tokens = tokens;
  return body(std::move(f));
}

inline wire::ReplyBodyUnion error_of(wire::ErrorCode code, const std::string& text) {
  wire::ErrorT e;
  e.code = code;
  e.text = text;
  return body(std::move(e));
}

}  // namespace troupe::client::testing
