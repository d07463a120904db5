#include "kernel/modules/stage.hpp"

#include <elf.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>

namespace troupe::modules {

namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t max_library_bytes = std::uintmax_t{1} << 30;

#if defined(__x86_64__)
constexpr std::uint16_t machine = EM_X86_64;
#elif defined(__aarch64__)
constexpr std::uint16_t machine = EM_AARCH64;
#else
#error "add this machine's number from elf.h"
#endif

result<std::vector<char>> read_file(const fs::path& file) {
  std::error_code code;
  if (fs::is_directory(file, code))
    return fail(error_code::bad_module, "{}: a folder, expected a file", file.string());
  const auto size = fs::file_size(file, code);
  if (code) return fail(error_code::not_found, "{}: cannot be read: {}", file.string(), code.message());
  if (size > max_library_bytes)
    return fail(error_code::bad_module, "{}: {} bytes, expected at most {}", file.string(), size,
                max_library_bytes);
  std::vector<char> bytes(static_cast<std::size_t>(size));
  std::ifstream in(file, std::ios::binary);
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!in) return fail(error_code::not_found, "{}: cannot be read: {}", file.string(), std::strerror(errno));
  return bytes;
}

bool same_content(const fs::path& file, std::span<const char> bytes) {
  const auto found = read_file(file);
  return found && found->size() == bytes.size() &&
         std::memcmp(found->data(), bytes.data(), bytes.size()) == 0;
}

// Every segment that dlopen() would map must be in the file: a mapping beyond its end kills the process at the first touch.
// Section headers are not looked at: the loader does not need them either. Empty = whole.
std::string cut_off(const Elf64_Ehdr& header, std::span<const char> bytes) {
  const std::uint64_t size = bytes.size(), table_bytes = std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (header.e_phnum == 0 || header.e_phentsize != sizeof(Elf64_Phdr))
    return "its program headers are not those of ELF";
  if (header.e_phoff > size || table_bytes > size - header.e_phoff)
    return fmt::format("the file is truncated: {} bytes end within the program headers", size);
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment = {};
    std::memcpy(&segment, bytes.data() + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type != PT_LOAD) continue;
    if (segment.p_offset > size || segment.p_filesz > size - segment.p_offset)
      return fmt::format(
          "the file is truncated: segment {} begins at byte {} with {} bytes, found {} bytes in all", i,
          segment.p_offset, segment.p_filesz, size);
  }
  return {};
}

}  // namespace

result<std::vector<char>> read_library(const fs::path& file) {
  auto bytes = read_file(file);
  if (!bytes) return bytes;
  Elf64_Ehdr header = {};
  if (bytes->size() < sizeof header || std::memcmp(bytes->data(), ELFMAG, SELFMAG) != 0)
    return fail(error_code::bad_module,
                "{}: not a module: expected an ELF shared library, found {} other bytes", file.string(),
                bytes->size());
  std::memcpy(&header, bytes->data(), sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != machine)
    return fail(error_code::bad_module, "{}: built for another machine (ELF machine {}, expected {})",
                file.string(), header.e_machine, machine);
  if (header.e_type != ET_DYN)
    return fail(error_code::bad_module, "{}: not a module: expected a shared library, found ELF type {}",
                file.string(), header.e_type);
  if (const auto problem = cut_off(header, *bytes); !problem.empty())
    return fail(error_code::bad_module, "{}: cannot be loaded: {}", file.string(), problem);
  return bytes;
}

std::string sha256_hex(std::span<const char> bytes) {
  std::array<unsigned char, 32> digest = {};
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1 ||
      size != digest.size())
    return {};
  std::string hex;
  for (const auto byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

result<fs::path> stage(const fs::path& folder, const std::string& sha256, std::span<const char> bytes) {
  static std::atomic<unsigned> counter{0};
  const fs::path target = folder / (sha256 + ".so");
  std::error_code code;
  if (fs::exists(target, code) && same_content(target, bytes)) return target;
  const fs::path temporary = folder / fmt::format(".{}.{}.{}", sha256, ::getpid(), counter.fetch_add(1));
  {
    std::ofstream out(temporary, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.close();
    if (!out) {
      const std::string why = std::strerror(errno);
      fs::remove(temporary, code);
      return fail(error_code::not_found, "{}: cannot be written: {}", temporary.string(), why);
    }
  }
  // Read-only: nothing may change under a mapping.
  fs::permissions(temporary, fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read, code);
  fs::rename(temporary, target, code);
  if (code) {
    const std::string why = code.message();
    fs::remove(temporary, code);
    return fail(error_code::not_found, "{}: cannot be written: {}", target.string(), why);
  }
  return target;
}

}  // namespace troupe::modules
