// Modules that were built with -fsanitize=address: their runtime must be in the process before anything else.
#pragma once

#include <string>

#include "kernel/base/result.hpp"

namespace troupe::cli {

// Where the module at `file` needs the address sanitizer's runtime and this process has none: starts this command anew with the
// runtime preloaded, and does not return. Returns at once in all other cases, also where the file cannot be read.
// Errors: bad_module: the runtime was asked for and is not there.
result<void> restart_with_sanitizer_runtime(const std::string& file);

}  // namespace troupe::cli
