#include "sandbox/cell/landlock.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace troupe::sandbox {

namespace {

// As in the kernel's documentation of Landlock. Written here because the headers of the supported distributions are older
// than the kernels that a cell may meet.
struct ruleset_attributes {
  std::uint64_t handled_access_fs = 0;
  std::uint64_t handled_access_net = 0;  // from version 4
  std::uint64_t scoped = 0;              // from version 6
};
constexpr unsigned ask_version = 1;

// Rights to files by version: 13 in the first, then refer, truncate, ioctl on devices.
constexpr std::uint64_t file_rights(int version) {
  const int bits = version >= 5 ? 16 : version >= 3 ? 15 : version == 2 ? 14 : 13;
  return (std::uint64_t{1} << bits) - 1;
}

}  // namespace

int enter_landlock() {
  const auto version = static_cast<int>(::syscall(SYS_landlock_create_ruleset, nullptr, 0, ask_version));
  if (version <= 0) return 0;
  ruleset_attributes all;
  all.handled_access_fs = file_rights(version);
  std::size_t size = sizeof all.handled_access_fs;
  if (version >= 4) {
    all.handled_access_net = 3;  // bind, connect
    size = 2 * sizeof(std::uint64_t);
  }
  if (version >= 6) {
    all.scoped = 3;  // abstract sockets, signals
    size = sizeof all;
  }
  const auto ruleset = static_cast<int>(::syscall(SYS_landlock_create_ruleset, &all, size, 0));
  if (ruleset < 0) return 0;
  const bool held = ::syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
  ::close(ruleset);
  return held ? version : 0;
}

}  // namespace troupe::sandbox
