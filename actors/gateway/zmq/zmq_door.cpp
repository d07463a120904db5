#include "actors/gateway/zmq/zmq_door.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <deque>
#include <mutex>
#include <thread>
#include <zmq.hpp>

#include "actors/gateway/zmq/bind.hpp"
#include "actors/gateway/zmq/connection_watch.hpp"
#include "actors/gateway/zmq/send_queues.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe::gateway {
namespace {

using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int frames_in_a_row = 256;  // then it is the replies' turn
constexpr milliseconds retry_after{5};

class eventfd_signal {
 public:
  ~eventfd_signal() { ::close(fd_); }
  int fd() const { return fd_; }
  void raise() {
    const std::uint64_t one = 1;
    [[maybe_unused]] auto n = ::write(fd_, &one, sizeof one);
  }
  void clear() {
    std::uint64_t count = 0;
    [[maybe_unused]] auto n = ::read(fd_, &count, sizeof count);
  }

 private:
  int fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
};

// The bytes are not copied: the message is kept until ZeroMQ has sent them.
zmq::message_t borrow(const reply_message& reply) {
  auto* keep = new reply_message(reply);
  const auto bytes = reply.bytes();
  return {const_cast<std::uint8_t*>(bytes.data()), bytes.size(),
          [](void*, void* kept) { delete static_cast<reply_message*>(kept); }, keep};
}

std::size_t bytes_of(const arrival& a) {
  return a.kind == arrival::what::request ? a.request.bytes().size() : 0;
}

class door final : public zmq_door {
 public:
  explicit door(const door_options& options)
      : zmq_door(options.limits),
        options_(options),
        router_(context_, zmq::socket_type::router),
        watch_(context_, router_),
        queues_([this](const auto& client, const auto& reply) { return try_send(client, reply); },
                {options.outbox_messages, options.outbox_bytes}) {
    router_.set(zmq::sockopt::router_mandatory, 1);
    router_.set(zmq::sockopt::sndhwm, options.socket_messages);
    router_.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(options.max_request_bytes));
    router_.set(zmq::sockopt::linger, static_cast<int>(options.linger.count()));
    router_.set(zmq::sockopt::heartbeat_ivl, static_cast<int>(options.heartbeat.count()));
    router_.set(zmq::sockopt::heartbeat_timeout, static_cast<int>(options.heartbeat_timeout.count()));
    router_.set(zmq::sockopt::backlog, 1024);
  }

  ~door() override {
    door::close();
    zmq_socket_monitor(router_.handle(), nullptr, 0);
  }

  void close() override {
    std::lock_guard lock(closing_mutex_);
    for (const auto& file : std::exchange(files_, {})) remove(file);  // while nobody else can have it
    if (!thread_.joinable()) return;
    closing_ = true;
    signal_.raise();
    thread_.join();
  }

  result<void> bind() {
    for (const auto& endpoint : options_.endpoints) {
      auto bound = bind_endpoint(router_, endpoint);
      if (!bound) return fail(std::move(bound.error()));
      if (auto file = socket_file_of(*bound)) files_.push_back(std::move(*file));
      endpoints_.push_back(std::move(*bound));
    }
    if (endpoints_.empty()) return fail(error_code::bad_config, "server.listen: no endpoint to listen at");
    thread_ = std::thread([this] { work(); });
    return {};
  }

  const std::vector<std::string>& endpoints() const override { return endpoints_; }
  std::uint64_t bad_frames() const override { return bad_frames_; }
  std::uint32_t clients() const override { return clients_; }

  std::uint64_t listen(std::function<void()> wake) override {
    std::uint64_t number = 0;
    {
      std::lock_guard lock(wake_mutex_);
      wake_ = std::move(wake);
      number = ++listener_;
    }
    signal_.raise();
    return number;
  }

  void unlisten(std::uint64_t listener) override {
    std::lock_guard lock(wake_mutex_);
    if (listener == listener_) wake_ = nullptr;
  }

  std::optional<arrival> take() override {
    std::unique_lock lock(mutex_);
    if (inbox_.empty()) return std::nullopt;
    const bool was_full = inbox_.size() >= options_.inbox_messages;
    auto first = std::move(inbox_.front());
    inbox_.pop_front();
    inbox_bytes_ -= bytes_of(first);
    lock.unlock();
    if (was_full) signal_.raise();
    return first;
  }

  void send(std::vector<std::pair<std::string, reply_message>> replies) override {
    if (replies.empty()) return;
    bool first = false;
    {
      std::lock_guard lock(mutex_);
      first = outbox_.empty();
      if (first)
        outbox_ = std::move(replies);
      else
        std::ranges::move(replies, std::back_inserter(outbox_));
    }
    if (first) signal_.raise();
  }

 private:
  void work();
  bool accepts();
  void write_replies();
  void read_frames();
  void read_frame(const std::string& client, const zmq::message_t& frame, bool alone);
  bool has_room_for(const request_message& request);
  void reply_now(const std::string& client, const reply_message& reply);
  send_outcome try_send(const std::string& client, const reply_message& reply);
  void tell(arrival::what kind, const std::string& client);
  void tell_of_connections();
  void wake_listener();

  const door_options options_;
  std::vector<std::string> endpoints_;
  eventfd_signal signal_;
  zmq::context_t context_{1};

  // The thread's own, after bind().
  zmq::socket_t router_;
  connection_watch watch_;
  send_queues queues_;
  std::vector<arrival> arrived_;
  std::size_t arrived_bytes_ = 0;
  clock::time_point next_beat_ = clock::now();

  // Shared. Held while the listener is called: after unlisten() it is not called any more.
  std::mutex wake_mutex_;
  std::function<void()> wake_;
  std::uint64_t listener_ = 0;
  std::mutex mutex_;  // of the two boxes
  std::deque<arrival> inbox_;
  std::size_t inbox_bytes_ = 0;
  std::vector<std::pair<std::string, reply_message>> outbox_;
  std::atomic<std::uint64_t> bad_frames_{0};
  std::atomic<std::uint32_t> clients_{0};
  std::atomic<bool> closing_{false};
  std::mutex closing_mutex_;
  std::vector<socket_file> files_;
  std::thread thread_;
};

void door::work() {
  for (;;) {
    std::array<zmq::pollitem_t, 3> items{{{nullptr, signal_.fd(), ZMQ_POLLIN, 0},
                                          {watch_.handle(), 0, ZMQ_POLLIN, 0},
                                          {router_.handle(), 0, ZMQ_POLLIN, 0}}};
    const bool open = accepts();
    zmq::poll(items.data(), open ? 3 : 2, queues_.empty() ? options_.beat : retry_after);
    if (items[0].revents != 0) signal_.clear();
    const bool closing = closing_;  // read first: what was given to send() before is written then
    write_replies();
    if (closing) return;  // closing the socket sends what it has taken
    watch_.read_events();
    if (open && items[2].revents != 0) read_frames();
    tell_of_connections();
    wake_listener();
  }
}

bool door::accepts() {
  {
    std::lock_guard lock(wake_mutex_);
    if (!wake_) return false;
  }
  std::lock_guard lock(mutex_);
  return inbox_.size() < options_.inbox_messages;
}

void door::write_replies() {
  std::vector<std::pair<std::string, reply_message>> replies;
  {
    std::lock_guard lock(mutex_);
    replies.swap(outbox_);
  }
  queues_.retry([this](const auto& client) { tell(arrival::what::gone, client); });
  for (const auto& [client, reply] : replies) reply_now(client, reply);
}

void door::reply_now(const std::string& client, const reply_message& reply) {
  switch (queues_.push(client, reply)) {
    case send_queues::outcome::accepted:
      break;
    case send_queues::outcome::overflow:
      tell(arrival::what::slow, client);
      break;
    case send_queues::outcome::unreachable:
      tell(arrival::what::gone, client);
  }
}

send_outcome door::try_send(const std::string& client, const reply_message& reply) {
  try {
    // With a mandatory route both refusals come with the first part; the second then always fits.
    if (!router_.send(zmq::buffer(client), zmq::send_flags::sndmore | zmq::send_flags::dontwait))
      return send_outcome::full;
    (void)router_.send(borrow(reply), zmq::send_flags::dontwait);
    return send_outcome::sent;
  } catch (const zmq::error_t&) {
    return send_outcome::unreachable;
  }
}

void door::read_frames() {
  for (int i = 0; i < frames_in_a_row; ++i) {
    zmq::message_t client;
    if (!router_.recv(client, zmq::recv_flags::dontwait)) return;
    zmq::message_t frame;
    int parts = 0;
    for (bool more = client.more(); more; ++parts) {
      zmq::message_t part;
      (void)router_.recv(part);
      more = part.more();
      if (parts == 0) frame = std::move(part);
    }
    const auto name = client.to_string();
    watch_.seen(name, zmq_msg_get(frame.handle(), ZMQ_SRCFD));  // the routing id does not always know it
    read_frame(name, frame, parts == 1);
  }
}

void door::read_frame(const std::string& client, const zmq::message_t& frame, bool alone) {
  refusal refused;
  if (alone) {
    auto request = read_request({frame.data<std::uint8_t>(), frame.size()});
    if (request && has_room_for(*request)) {
      arrived_.push_back({arrival::what::request, client, std::move(*request), steady_ns()});
      arrived_bytes_ += bytes_of(arrived_.back());
      return;
    }
    if (request) {
      const error why{error_code::overloaded,
                      "too many bytes of requests wait at this server: try again later"};
      return reply_now(client, error_reply((*request)->id(), why));
    }
    refused = std::move(request.error());
  } else {
    refused.why = {
        error_code::invalid_frame,
        "a message of more than one part, expected a single frame with a ClientRequest (use a DEALER "
        "socket, not REQ)"};
  }
  ++bad_frames_;
  log::debug("gateway", "request refused", {{"text", refused.why.text}});
  reply_now(client, error_reply(refused.id, refused.why));
}

bool door::has_room_for(const request_message& request) {
  if (request->body_type() == wire::RequestBody::Cancel) return true;  // it makes room
  std::lock_guard lock(mutex_);
  return inbox_bytes_ + arrived_bytes_ + request.bytes().size() <= options_.inbox_bytes;
}

void door::tell(arrival::what kind, const std::string& client) {
  arrived_.push_back({kind, client, {}, steady_ns()});
}

void door::tell_of_connections() {
  for (const auto& client : watch_.take_gone()) {
    queues_.drop(client);
    tell(arrival::what::gone, client);
  }
  for (const auto& client : watch_.take_suspects()) tell(arrival::what::suspect, client);
  clients_ = static_cast<std::uint32_t>(watch_.connections());
}

void door::wake_listener() {
  const auto now = clock::now();
  const bool beat = now >= next_beat_;
  if (beat) next_beat_ = now + options_.beat;
  if (arrived_.empty() && !beat) return;
  bool news = false;
  {
    std::lock_guard lock(mutex_);
    news = inbox_.empty() && !arrived_.empty();
    std::ranges::move(arrived_, std::back_inserter(inbox_));
    arrived_.clear();
    inbox_bytes_ += std::exchange(arrived_bytes_, 0);
  }
  std::lock_guard lock(wake_mutex_);
  if (wake_ && (news || beat)) wake_();
}

}  // namespace

result<std::shared_ptr<zmq_door>> open_zmq_door(const door_options& options) {
  try {
    auto opened = std::make_shared<door>(options);
    if (auto bound = opened->bind(); !bound) return fail(std::move(bound.error()));
    return std::shared_ptr<zmq_door>(std::move(opened));
  } catch (const zmq::error_t& e) {
    return fail(error_code::internal, "the ZeroMQ socket could not be made: {}", e.what());
  }
}

std::uint64_t steady_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now().time_since_epoch()).count());
}

}  // namespace troupe::gateway
