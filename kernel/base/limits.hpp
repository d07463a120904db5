// Limits that several parts keep.
#pragma once

#include <cstddef>

namespace troupe {

// The largest FlatBuffer that is taken from outside: a message, or the Program that a module emits.
inline constexpr std::size_t max_flatbuffer_bytes = std::size_t{64} << 20;

}  // namespace troupe
