#include "sandbox/cell/lockdown.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>
#include <vector>

#include "sandbox/cell/landlock.hpp"
#include "sandbox/cell/sanitized.hpp"

namespace troupe::sandbox {

namespace {

constexpr rlim_t open_files = 16;
constexpr rlim_t stack_bytes = rlim_t{8} << 20;
constexpr uid_t nobody = 65534;
constexpr int nice_value = 10;  // streams come first

std::string reason(int code) {
  return std::generic_category().message(code);
}

struct one_limit {
  int which;
  rlim_t soft, hard;
  const char* name;
};

// Root in the cell is root outside until the user namespace stands, so it goes first. Not fatal: a container's root may have
// no right to change its user; without capabilities and behind the filter it can do as little.
bool become_nobody() {
  if (::geteuid() != 0) return false;
  return ::setgroups(0, nullptr) == 0 && ::setresgid(nobody, nobody, nobody) == 0 &&
         ::setresuid(nobody, nobody, nobody) == 0;
}

// An empty, read-only file system as root. Only where Landlock is missing: the end of a mount namespace waits for the kernel.
// chroot is enough: nothing is open that leads out, and the capability to leave is dropped.
bool empty_root() {
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return false;
  constexpr unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  for (const char* folder : {"/tmp", "/usr", "/proc"})
    if (::mount("none", folder, "tmpfs", flags, "size=4k,nr_inodes=2") == 0)
      return ::chdir(folder) == 0 && ::chroot(".") == 0;
  return false;
}

std::string enter_namespaces() {
  struct kind {
    int flag;
    const char* name;
  };
  // The user namespace comes first: inside of it the others need no rights outside.
  static constexpr kind kinds[] = {
      {CLONE_NEWUSER, "user"}, {CLONE_NEWNET, "network"}, {CLONE_NEWIPC, "ipc"}, {CLONE_NEWUTS, "uts"}};
  std::vector<std::string> entered;
  for (const auto& [flag, name] : kinds)
    if (::unshare(flag) == 0) entered.emplace_back(name);
  return entered.empty() ? "" : fmt::format("own namespaces: {}", fmt::join(entered, ", "));
}

bool drop_capabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  return ::syscall(SYS_capset, &header, none) == 0;
}

}  // namespace

std::string limit_resources(const cell_arguments& arguments) {
  ::setpriority(PRIO_PROCESS, 0, nice_value);
  const rlim_t memory = sanitized() ? RLIM_INFINITY : arguments.memory_bytes;
  const one_limit limits[] = {
      {RLIMIT_AS, memory, memory, "address space"},
      {RLIMIT_CPU, arguments.cpu_seconds, arguments.cpu_seconds + 1, "processor time"},
      {RLIMIT_STACK, stack_bytes, stack_bytes, "stack"},
      {RLIMIT_NOFILE, open_files, open_files, "open files"},
      {RLIMIT_NPROC, 0, 0, "processes"},
      {RLIMIT_FSIZE, 0, 0, "file size"},
      {RLIMIT_CORE, 0, 0, "core dumps"},
      {RLIMIT_MEMLOCK, 0, 0, "locked memory"},
      {RLIMIT_MSGQUEUE, 0, 0, "message queues"},
  };
  for (const auto& l : limits) {
    rlimit wanted = {l.soft, l.hard};
    rlimit now = {};
    ::getrlimit(static_cast<__rlimit_resource_t>(l.which), &now);
    wanted.rlim_max = std::min(wanted.rlim_max, now.rlim_max);
    wanted.rlim_cur = std::min(wanted.rlim_cur, wanted.rlim_max);
    if (::setrlimit(static_cast<__rlimit_resource_t>(l.which), &wanted) != 0)
      return fmt::format("the limit of {} cannot be set: {}", l.name, reason(errno));
  }
  return {};
}

std::string leave_everything() {
  std::vector<std::string> walls;
  if (become_nobody()) walls.emplace_back("user nobody");
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (auto entered = enter_namespaces(); !entered.empty()) walls.push_back(std::move(entered));
  if (const int version = enter_landlock(); version > 0)
    walls.push_back(fmt::format("Landlock {}", version));
  else if (empty_root())
    walls.emplace_back("own mount namespace with an empty root");
  if (drop_capabilities()) walls.emplace_back("no capabilities");
  // A change of user forgets the first, and makes the second the system's choice: so they come last.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return fmt::format("{}", fmt::join(walls, "; "));
}

}  // namespace troupe::sandbox
