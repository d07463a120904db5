// Names of the functions in a module's file, read from its own symbol table: modules are built with hidden visibility, so the
// loader knows none of them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace troupe::sandbox {

// The name, as the compiler spells it, of the function that contains `offset` from where the library is loaded. Empty = not
// known. `file`: the library's bytes; they may be any. Allocates nothing.
std::string_view function_at(std::span<const std::uint8_t> file, std::uint64_t offset);

}  // namespace troupe::sandbox
