// What a native op says of the workspace that it needs.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernel/base/result.hpp"
#include "kernel/program/native_ops.hpp"

namespace troupe::ops {

// Bytes for a step of that many rows and sequences; 0 = the op needs none. Error: internal: it cannot tell (with its own words), or
// asks for more than any machine has.
result<std::uint64_t> workspace_of(const troupe_native_op& op, program::native_use& use,
                                   std::string_view where, std::uint64_t rows, std::uint32_t sequences,
                                   std::uint32_t threads);

}  // namespace troupe::ops
