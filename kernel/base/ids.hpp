// Ids that cannot be mixed up. The value is what travels in messages.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace troupe {

template <class Tag, class Value>
struct id {
  Value value = 0;
  friend auto operator<=>(const id&, const id&) = default;
};

using stream_id = id<struct stream_tag, std::uint64_t>;      // one client request, given by the gateway
using sequence_id = id<struct sequence_tag, std::uint64_t>;  // one choice of a stream, given by the scheduler
using model_id = id<struct model_tag, std::uint32_t>;        // index in the configuration
using block_id = id<struct block_tag, std::uint32_t>;        // index in the device's block pool

}  // namespace troupe

template <class Tag, class Value>
struct std::hash<troupe::id<Tag, Value>> {
  std::size_t operator()(troupe::id<Tag, Value> x) const noexcept { return std::hash<Value>{}(x.value); }
};
