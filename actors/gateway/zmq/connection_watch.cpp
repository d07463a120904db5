#include "actors/gateway/zmq/connection_watch.hpp"

#include <cstring>

namespace troupe::gateway {

connection_watch::connection_watch(zmq::context_t& context, zmq::socket_t& router)
    : events_(context, zmq::socket_type::pair) {
  zmq_socket_monitor(router.handle(), "inproc://connections", ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED);
  events_.set(zmq::sockopt::linger, 0);
  events_.connect("inproc://connections");
}

void connection_watch::read_events() {
  zmq::message_t event, address;
  while (events_.recv(event, zmq::recv_flags::dontwait)) {
    (void)events_.recv(address);
    std::uint16_t kind = 0;
    std::int32_t fd = -1;
    std::memcpy(&kind, event.data(), sizeof kind);
    std::memcpy(&fd, event.data<char>() + sizeof kind, sizeof fd);
    if (kind == ZMQ_EVENT_ACCEPTED)
      open_.insert(fd);
    else if (kind == ZMQ_EVENT_DISCONNECTED)
      closed(fd);
  }
}

void connection_watch::closed(int fd) {
  open_.erase(fd);
  auto client = clients_.extract(fd);
  if (client) gone_.push_back(std::move(client.mapped()));
}

void connection_watch::seen(const std::string& client, int fd) {
  if (fd < 0) return;
  if (!open_.contains(fd)) {
    suspects_.push_back(client);
    return;
  }
  auto& known = clients_[fd];
  if (known != client) known = client;
}

}  // namespace troupe::gateway
