// Content-addressed copies of module files.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::modules {

// The bytes of a file that looks like a shared library for this machine.
// Errors: not_found; bad_module: a folder, larger than 1 GiB, not ELF, of another machine, not a shared library,
// truncated.
result<std::vector<char>> read_library(const std::filesystem::path& file);

// SHA-256 as 64 lowercase hexadecimal digits.
std::string sha256_hex(std::span<const char> bytes);

// <folder>/<sha256>.so, written under another name and renamed, so that it is whole whenever it is there. A copy that is
// there already is read and compared; one that was damaged is replaced. Error: not_found with the reason.
result<std::filesystem::path> stage(const std::filesystem::path& folder, const std::string& sha256,
                                    std::span<const char> bytes);

}  // namespace troupe::modules
