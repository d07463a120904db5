// From a frame of a stranger to a request that may be read without fear, or to the error that answers it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "actors/replies.hpp"
#include "kernel/frame/message.hpp"

namespace troupe::gateway {

using request_message = message<wire::ClientRequest>;

struct refusal {
  std::uint64_t id = 0;  // of the request, if that much could be read
  error why;
};

// Verifies the bytes once. Errors: invalid_frame; unsupported_version (a Hello may be of any version); invalid_request
// (a type of request that this version does not have, id 0).
tl::expected<request_message, refusal> read_request(std::span<const std::uint8_t> frame);

// Answers Hello: Welcome, or unsupported_version with those that are spoken.
reply_message answer_hello(std::uint64_t id, const wire::Hello& hello, std::string_view server);

// A stranger's words as they may be quoted in an answer: the first 100 bytes at most, with U+FFFD for what is not UTF-8 and for
// control characters.
std::string quotable(std::string_view words);

}  // namespace troupe::gateway
