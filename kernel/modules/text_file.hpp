// Small files that people and commands write: lists of what is trusted, signatures, keys.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "kernel/base/result.hpp"

namespace troupe::modules {

// Errors: not_found with the reason; bad_config: larger than 1 MiB.
result<std::string> read_small_file(const std::filesystem::path& file);

// Whole or not at all: written beside and renamed. Only the owner may write it, whatever the umask. Makes the folder if need be. Error: not_found with the reason.
result<void> write_small_file(const std::filesystem::path& file, std::string_view text);

}  // namespace troupe::modules
