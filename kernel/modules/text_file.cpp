#include "kernel/modules/text_file.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace troupe::modules {

namespace fs = std::filesystem;

namespace {

constexpr std::uintmax_t max_bytes = std::uintmax_t{1} << 20;

}  // namespace

result<std::string> read_small_file(const fs::path& file) {
  std::error_code code;
  const auto size = fs::file_size(file, code);
  if (code) return fail(error_code::not_found, "{}: cannot be read: {}", file.string(), code.message());
  if (size > max_bytes)
    return fail(error_code::bad_config, "{}: {} bytes, expected at most {}", file.string(), size, max_bytes);
  std::string text(static_cast<std::size_t>(size), '\0');
  std::ifstream in(file, std::ios::binary);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in) return fail(error_code::not_found, "{}: cannot be read: {}", file.string(), std::strerror(errno));
  return text;
}

result<void> write_small_file(const fs::path& file, std::string_view text) {
  std::error_code code;
  if (file.has_parent_path()) fs::create_directories(file.parent_path(), code);
  const fs::path temporary = fmt::format("{}.{}", file.string(), ::getpid());
  {
    std::ofstream out(temporary, std::ios::binary);
    out << text;
    out.close();
    if (!out) {
      const std::string why = std::strerror(errno);
      fs::remove(temporary, code);
      return fail(error_code::not_found, "{}: cannot be written: {}", file.string(), why);
    }
  }
  fs::permissions(temporary, fs::perms::group_write | fs::perms::others_write, fs::perm_options::remove,
                  code);
  if (!code) fs::rename(temporary, file, code);
  if (!code) return {};
  const std::string why = code.message();
  fs::remove(temporary, code);
  return fail(error_code::not_found, "{}: cannot be written: {}", file.string(), why);
}

}  // namespace troupe::modules
