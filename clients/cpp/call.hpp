// A request with one reply.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "link.hpp"
#include "messages.hpp"

namespace troupe::client {

inline std::string in_ms(milliseconds t) {
  return std::to_string(t.count()) + " ms";
}

// The one reply to a request, which must be a `Table`.
template <class Table>
reply call(link& l, std::uint64_t id, flatbuffers::DetachedBuffer request, milliseconds timeout) {
  auto box = std::make_shared<mailbox>();
  l.open(id, box, std::move(request));
  auto answer = box->take(timeout);
  l.forget(id);
  if (!answer)
    throw failure(error_code::deadline_exceeded,
                  "no answer from " + l.endpoint + " within " + in_ms(timeout));
  if (const auto* e = (*answer)->template body_as<wire::Error>()) throw read_error(*e);
  if (!(*answer)->template body_as<Table>())
    throw failure(error_code::invalid_frame, l.endpoint + " answered with a message of another type");
  return *answer;
}

}  // namespace troupe::client
