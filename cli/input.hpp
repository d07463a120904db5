// Where commands get their texts from.
#pragma once

#include <string>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::cli {

// A whole file; "-" = standard input. Error: not_found.
result<std::string> read_all(const std::string& file);

// The words of the command line, joined by spaces; without any, or for a single "-", standard input less one line
// break at its end. Error: invalid_request if there are none and standard input is a terminal.
result<std::string> argument_or_stdin(const std::vector<std::string>& words);

}  // namespace troupe::cli
