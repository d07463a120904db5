#include "kernel/checkpoint/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>

namespace troupe::checkpoint {

namespace {

constexpr std::uintmax_t max_text_bytes = std::uintmax_t{64} << 20;

std::string reason(int code) {
  return std::generic_category().message(code);
}

// Closes the descriptor of a file when it goes out of scope; a mapping outlives its descriptor.
struct descriptor {
  int value = -1;
  ~descriptor() {
    if (value >= 0) ::close(value);
  }
};

}  // namespace

result<std::shared_ptr<const mapped_file>> mapped_file::open(const std::filesystem::path& path) {
  const descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.value < 0)
    return fail(error_code::not_found, "{}: cannot be read: {}", path.string(), reason(errno));
  struct stat status = {};
  if (::fstat(file.value, &status) != 0)
    return fail(error_code::not_found, "{}: cannot be read: {}", path.string(), reason(errno));
  if (!S_ISREG(status.st_mode))
    return fail(error_code::bad_checkpoint, "{}: not a regular file", path.string());
  if (status.st_size == 0) return fail(error_code::bad_checkpoint, "{}: the file is empty", path.string());
  const auto size = static_cast<std::size_t>(status.st_size);
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.value, 0);
  if (start == MAP_FAILED)
    return fail(error_code::not_found, "{}: cannot be mapped ({} bytes): {}", path.string(), size,
                reason(errno));
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(start), size);
  return std::shared_ptr<const mapped_file>(new mapped_file(path.filename().string(), bytes));
}

mapped_file::~mapped_file() {
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

result<std::string> read_text(const std::filesystem::path& path) {
  std::error_code code;
  const auto size = std::filesystem::file_size(path, code);
  if (code) return fail(error_code::not_found, "{}: cannot be read: {}", path.string(), code.message());
  if (size > max_text_bytes)
    return fail(error_code::bad_checkpoint, "{}: {} bytes, expected at most {}", path.string(), size,
                max_text_bytes);
  std::ifstream in(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(size), '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in) return fail(error_code::not_found, "{}: cannot be read", path.string());
  return text;
}

}  // namespace troupe::checkpoint
