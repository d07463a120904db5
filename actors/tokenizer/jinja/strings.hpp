// Python's string functions on UTF-8, shared by filters and methods.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/tokenizer/jinja/value.hpp"

namespace troupe::text::jinja {

// Without `letters`: white space.
std::string strip(std::string_view text, const std::optional<std::string>& letters, bool left, bool right);

// At most `count` times, from the left; negative: all.
std::string replace(budget& b, std::string_view text, std::string_view old, std::string_view by,
                    integer count);

std::string capitalize(std::string_view text);
std::string title(std::string_view text);

// At most `limit` cuts, negative: all. Without a separator: at runs of white space, none at the ends.
std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator,
                               integer limit);
std::vector<std::string> split_from_right(std::string_view text, const std::optional<std::string>& separator,
                                          integer limit);
std::vector<std::string> split_at(std::string_view text, char separator);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);

}  // namespace troupe::text::jinja
