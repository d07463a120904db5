// What commands share to write their results. Results go to stdout, all else to stderr.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::cli {

// Writes and flushes. False if the reader has gone (a closed pipe): then the command should end.
bool write_out(std::string_view text);
// One JSON value on one line.
bool write_json(const boost::json::value& value);

// Columns padded to their widest cell; the first row is the heading. Cells beginning with a digit stand
// right.
std::string table(const std::vector<std::vector<std::string>>& rows);

bool is_terminal(int descriptor);

// Line breaks and control characters as \n, \t, \x1b; the rest as it is.
std::string escaped(std::string_view text);
// The reverse for what people type on a command line: \n, \t, \\; other backslashes stay.
std::string unescaped(std::string_view text);
// Bytes as a JSON string: invalid UTF-8 becomes U+FFFD.
std::string valid_utf8(std::string_view bytes);

// "1.2 M", "7.8 B"
std::string short_count(std::uint64_t n);

}  // namespace troupe::cli
