// A file mapped read-only and shared. The mapping ends with the object.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "kernel/base/result.hpp"

namespace troupe::checkpoint {

class mapped_file {
 public:
  // Errors: not_found (with the reason of the operating system), bad_checkpoint (empty, or not a regular file).
  static result<std::shared_ptr<const mapped_file>> open(const std::filesystem::path& path);

  ~mapped_file();
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;

  const std::string& name() const { return name_; }  // without the folder
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  mapped_file(std::string name, std::span<const std::byte> bytes) : name_(std::move(name)), bytes_(bytes) {}
  std::string name_;
  std::span<const std::byte> bytes_;
};

// The whole of a small text file. Errors: not_found, bad_checkpoint (larger than 64 MiB).
result<std::string> read_text(const std::filesystem::path& path);

}  // namespace troupe::checkpoint
