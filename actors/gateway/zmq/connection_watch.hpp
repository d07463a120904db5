// Which client stands behind which file descriptor of a ROUTER socket, and which of them are gone. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>
#include <zmq.hpp>

namespace troupe::gateway {

class connection_watch {
 public:
  // Watches from before the first bind.
  connection_watch(zmq::context_t& context, zmq::socket_t& router);

  void* handle() { return events_.handle(); }  // to be polled

  // Reads the monitor's news: connections opened, and closed ones.
  void read_events();
  // The clients of connections that were closed, and of such that sent something after that; moved out.
  std::vector<std::string> take_gone() { return std::exchange(gone_, {}); }
  std::vector<std::string> take_suspects() { return std::exchange(suspects_, {}); }

  // A frame came from `client` over descriptor `fd`.
  void seen(const std::string& client, int fd);

  std::size_t connections() const { return open_.size(); }

 private:
  void closed(int fd);

  zmq::socket_t events_;
  std::unordered_set<int> open_;
  std::unordered_map<int, std::string> clients_;
  std::vector<std::string> gone_;
  std::vector<std::string> suspects_;
};

}  // namespace troupe::gateway
