// Modules that were built with -fsanitize=address: their runtime must be in the process before anything else.
#pragma once

#include <string>

#include "kernel/base/result.hpp"

namespace troupe::cli {

// Starts this command anew with the address sanitizer's runtime that the library at `file` names preloaded, and does not return;
// returns at once where it has been done. The cell's walls are lower then (sandbox/cell/sanitized.hpp): never without the user's word.
// Errors: not_found; bad_module: the library needs no such runtime, or one that is not there.
result<void> restart_with_address_sanitizer(const std::string& file);

}  // namespace troupe::cli
