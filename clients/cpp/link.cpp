#include "link.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "messages.hpp"

namespace troupe::client {
namespace {

constexpr int reads_in_a_row = 256;  // then it is the requests' turn
constexpr auto retry_after = milliseconds(5);

template <class Predicate>
bool wait(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, milliseconds timeout,
          Predicate done) {
  if (timeout == forever) {
    changed.wait(lock, done);
    return true;
  }
  return changed.wait_for(lock, timeout, done);
}

bool ends_a_request(wire::ReplyBody type) {
  return type != wire::ReplyBody::Chunk && type != wire::ReplyBody::Event;
}

}  // namespace

void mailbox::put(reply r) {
  std::lock_guard lock(mutex_);
  replies_.push_back(std::move(r));
  changed_.notify_all();
}

void mailbox::fail(failure why) {
  std::lock_guard lock(mutex_);
  if (!failure_) failure_ = std::move(why);
  changed_.notify_all();
}

std::optional<reply> mailbox::take(milliseconds timeout) {
  std::unique_lock lock(mutex_);
  if (!wait(changed_, lock, timeout, [this] { return !replies_.empty() || failure_; })) return std::nullopt;
  if (replies_.empty()) throw *failure_;
  auto first = std::move(replies_.front());
  replies_.pop_front();
  return first;
}

link::link(const std::string& where, const connect_options& how)
    : endpoint(where),
      options(how),
      socket_(context_, zmq::socket_type::dealer),
      events_(context_, zmq::socket_type::pair),
      wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  // For the cancellations of streams that are dropped with the connection.
  socket_.set(zmq::sockopt::linger, 200);
  socket_.set(zmq::sockopt::reconnect_ivl, 50);
  socket_.set(zmq::sockopt::reconnect_ivl_max, 2000);
  socket_.set(zmq::sockopt::heartbeat_ivl, 10'000);
  socket_.set(zmq::sockopt::heartbeat_timeout, 30'000);
  zmq_socket_monitor(socket_.handle(), "inproc://events",
                     ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED);
  events_.set(zmq::sockopt::linger, 0);
  events_.connect("inproc://events");
  try {
    socket_.connect(where);
  } catch (const zmq::error_t& e) {
    close(wake_fd_);
    throw failure(error_code::bad_config, "'" + where + "' is not an endpoint (" + e.what() +
                                              "): expected tcp://host:port or ipc:///path");
  }
  thread_ = std::thread([this] { work(); });
}

link::~link() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake();
  thread_.join();
  zmq_socket_monitor(socket_.handle(), nullptr, 0);
  close(wake_fd_);
}

void link::open(std::uint64_t id, std::shared_ptr<mailbox> box, flatbuffers::DetachedBuffer request) {
  {
    std::lock_guard lock(mutex_);
    if (!connected_)
      throw failure(error_code::unavailable,
                    "not connected to " + endpoint + ": the server is down or unreachable");
    open_.emplace(id, std::move(box));
    outbox_.push_back(std::move(request));
  }
  wake();
}

void link::send(flatbuffers::DetachedBuffer request) {
  {
    std::lock_guard lock(mutex_);
    if (!connected_) return;
    outbox_.push_back(std::move(request));
  }
  wake();
}

void link::forget(std::uint64_t id) {
  std::lock_guard lock(mutex_);
  open_.erase(id);
}

bool link::wait_connected(milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return wait(connection_changed_, lock, timeout, [this] { return connected_; });
}

void link::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] auto written = write(wake_fd_, &one, sizeof one);
}

void link::work() {
  std::array<zmq::pollitem_t, 3> items{{{socket_.handle(), 0, ZMQ_POLLIN, 0},
                                        {events_.handle(), 0, ZMQ_POLLIN, 0},
                                        {nullptr, wake_fd_, ZMQ_POLLIN, 0}}};
  bool all_written = true;
  for (;;) {
    zmq::poll(items.data(), items.size(), all_written ? milliseconds(-1) : retry_after);
    if (items[2].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] auto got = read(wake_fd_, &count, sizeof count);
    }
    if (items[0].revents != 0) read_replies();
    if (items[1].revents != 0) read_events();
    all_written = write_requests();
    std::lock_guard lock(mutex_);
    if (closing_) return;
  }
}

void link::read_events() {
  zmq::message_t event, address;
  while (events_.recv(event, zmq::recv_flags::dontwait)) {
    (void)events_.recv(address);
    std::uint16_t kind = 0;
    std::memcpy(&kind, event.data(), sizeof kind);
    {
      std::lock_guard lock(mutex_);
      connected_ = kind == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
    }
    connection_changed_.notify_all();
    if (kind != ZMQ_EVENT_DISCONNECTED) continue;
    while (read_replies()) {  // what came before the end still counts
    }
    fail_all({error_code::unavailable, "the connection to " + endpoint + " was lost"});
  }
}

bool link::read_replies() {
  for (int i = 0; i < reads_in_a_row; ++i) {
    zmq::message_t frame;
    if (!socket_.recv(frame, zmq::recv_flags::dontwait)) return false;
    const bool whole = !frame.more();
    for (zmq::message_t rest; socket_.get(zmq::sockopt::rcvmore);) (void)socket_.recv(rest);
    if (whole) deliver(frame);
  }
  return true;
}

void link::deliver(const zmq::message_t& frame) {
  if (frame.size() < 8) return;
  std::shared_ptr<std::uint8_t[]> bytes(new std::uint8_t[frame.size()]);
  std::memcpy(bytes.get(), frame.data(), frame.size());
  flatbuffers::Verifier verifier(bytes.get(), frame.size(), 32, 1'000'000);
  if (!verifier.VerifyBuffer<wire::ServerReply>(nullptr)) return;
  const reply r{std::shared_ptr<const std::uint8_t[]>(bytes)};
  const auto type = r->body_type();
  if (type == wire::ReplyBody::NONE || type == wire::ReplyBody::Alive || type > wire::ReplyBody::MAX)
    return;  // nothing to tell, or not known here
  std::shared_ptr<mailbox> box;
  {
    std::lock_guard lock(mutex_);
    auto found = open_.find(r->id());
    if (found != open_.end()) {
      box = found->second;
      if (ends_a_request(type)) open_.erase(found);
    } else if (!ends_a_request(type)) {
      outbox_.push_back(cancel_request(next_id(), r->id()));  // nobody here listens to that stream
    }
  }
  if (box) box->put(r);
}

bool link::write_requests() {
  for (;;) {
    std::unique_lock lock(mutex_);
    if (outbox_.empty()) return true;
    const auto& next = outbox_.front();
    if (!socket_.send(zmq::buffer(next.data(), next.size()), zmq::send_flags::dontwait)) return false;
    outbox_.pop_front();
  }
}

void link::fail_all(const failure& why) {
  std::unordered_map<std::uint64_t, std::shared_ptr<mailbox>> failed;
  {
    std::lock_guard lock(mutex_);
    failed.swap(open_);
    outbox_.clear();
  }
  for (auto& [id, box] : failed) box->fail(why);
}

}  // namespace troupe::client
