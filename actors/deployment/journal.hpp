// The file that says what is intended: <folder>/journal, one line per record (record.hpp) behind a first line that names the format.
//
//   troupe journal 1
//   5f0c93b1 {"kind":"begun", ...}
//
// append() returns when the record is on the disk. A last line that is not whole was never acknowledged: open() cuts it off. A
// damaged line with whole ones behind it is damage, and an error. The file is locked while it is open. One thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "actors/deployment/record.hpp"
#include "kernel/base/result.hpp"

namespace troupe::deployment {

class journal {
 public:
  struct opened;

  // Creates folder and file if need be. Errors: not_found (cannot be read or written), bad_config: another process has it open; a
  // line is damaged; not a journal.
  static result<opened> open(const std::filesystem::path& folder);
  ~journal();
  journal(const journal&) = delete;
  journal& operator=(const journal&) = delete;

  // Error: not_found with the reason (disk full, say). The file is then as it was before; if even that fails, every later
  // append fails, too.
  result<void> append(const record& r);

  // Replaces the content by these records: written beside, synced, renamed. Unchanged on failure.
  result<void> rewrite(std::span<const record> records);

  std::uint64_t bytes() const { return bytes_; }
  const std::filesystem::path& file() const { return file_; }

 private:
  journal(int lock, int fd, std::filesystem::path file, std::uint64_t bytes)
      : lock_(lock), fd_(fd), file_(std::move(file)), bytes_(bytes) {}

  int lock_ = -1;  // on a file of its own: rewrite() replaces the other one
  int fd_ = -1;
  std::filesystem::path file_;
  std::uint64_t bytes_ = 0;
  bool torn_ = false;  // a record that could not be written could not be cut off either
};

struct journal::opened {
  std::unique_ptr<journal> file;
  std::vector<record> records;
  std::uint64_t cut_bytes = 0;  // of a torn tail
};

}  // namespace troupe::deployment
