// Text from a stranger, made fit for logs, terminals and JSON.
#pragma once

#include <string>
#include <string_view>

namespace troupe::sandbox {

// Valid UTF-8 without control characters (a line break becomes a blank), at most `limit` bytes.
std::string clean_text(std::string_view text, std::size_t limit);

}  // namespace troupe::sandbox
