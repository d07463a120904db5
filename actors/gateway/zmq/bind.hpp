// Binding a socket to an endpoint, with errors that tell an operator what to do.
#pragma once

#include <string>
#include <zmq.hpp>

#include "kernel/base/result.hpp"

namespace troupe::gateway {

// Answers the endpoint as bound, with its real port. Errors: address_in_use, bad_config.
result<std::string> bind_endpoint(zmq::socket_t& socket, const std::string& endpoint);

}  // namespace troupe::gateway
