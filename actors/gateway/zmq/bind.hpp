// Binding a socket to an endpoint, with errors that tell an operator what to do.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <zmq.hpp>

#include "kernel/base/result.hpp"

namespace troupe::gateway {

// Answers the endpoint as bound, with its real port. Errors: address_in_use, bad_config.
result<std::string> bind_endpoint(zmq::socket_t& socket, const std::string& endpoint);

// The file that a bound ipc endpoint has made. ZeroMQ leaves it behind.
struct socket_file {
  std::string path;
  dev_t device = 0;
  ino_t number = 0;
};
std::optional<socket_file> socket_file_of(const std::string& endpoint);
void remove(const socket_file& file);  // unless another has taken its place meanwhile

}  // namespace troupe::gateway
