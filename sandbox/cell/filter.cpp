// The seccomp filter: what a module that only computes needs, and nothing else. Whatever is not named here raises SIGSYS, whose
// handler (fault.cpp) says which call it was and in which function of the module.
#include <seccomp.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <system_error>

#include "sandbox/cell/lockdown.hpp"
#include "sandbox/cell/sanitized.hpp"

namespace troupe::sandbox {

namespace {

// Descriptors that are open lead to the module, /dev/null and pipes; there is no way to a new one.
constexpr int allowed[] = {
    SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(close), SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    // Memory; mmap and mremap stand below.
    SCMP_SYS(munmap), SCMP_SYS(mprotect), SCMP_SYS(madvise), SCMP_SYS(brk),
    // Time and chance.
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time),
    SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(restart_syscall), SCMP_SYS(getrandom),
    // About itself. sysinfo: the C library's qsort asks how much memory there is.
    SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(gettid), SCMP_SYS(sched_yield), SCMP_SYS(futex),
    SCMP_SYS(sysinfo),
    // Its own end. Handlers cannot be changed: no rt_sigaction, no sigaltstack. rt_sigprocmask stands below.
    SCMP_SYS(rt_sigreturn), SCMP_SYS(exit), SCMP_SYS(exit_group)};

// What the runtime of a sanitizer calls by itself: pipe2 to find out whether memory can be read, readlink for the name of a library
// that is opened.
constexpr int allowed_sanitizers[] = {SCMP_SYS(sigaltstack),   SCMP_SYS(rt_sigaction), SCMP_SYS(getrlimit),
                                      SCMP_SYS(prlimit64),     SCMP_SYS(prctl),        SCMP_SYS(mmap),
                                      SCMP_SYS(mremap),        SCMP_SYS(pipe2),        SCMP_SYS(readlink),
                                      SCMP_SYS(rt_sigprocmask)};

struct release {
  void operator()(void* context) const { seccomp_release(context); }
};

int add_rules(scmp_filter_ctx filter, const cell_arguments& arguments) {
  int problem = 0;
  const auto allow = [&](int call, auto... conditions) {
    const int code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, sizeof...(conditions), conditions...);
    if (code != 0 && problem == 0) problem = code;
  };
  for (const int call : allowed) allow(call);
  // Signals to itself only: abort() raises one.
  allow(SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid())));
  if (sanitized()) {
    for (const int call : allowed_sanitizers) allow(call);
  } else {
    // The handler blocks signals in its place, all but the one that calls the handler.
    allow(SCMP_SYS(rt_sigprocmask), SCMP_A0(SCMP_CMP_EQ, SIG_UNBLOCK));
    // More at once than there may be in all: the handler says so, where malloc would answer null and the module crash.
    allow(SCMP_SYS(mmap), SCMP_A1(SCMP_CMP_LE, arguments.memory_bytes));
    allow(SCMP_SYS(mremap), SCMP_A2(SCMP_CMP_LE, arguments.memory_bytes));
  }
  return problem;
}

}  // namespace

std::string install_filter(const cell_arguments& arguments) {
  const std::unique_ptr<void, release> filter(seccomp_init(SCMP_ACT_TRAP));
  int problem = filter ? 0 : -ENOMEM;
  if (problem == 0) problem = add_rules(filter.get(), arguments);
  if (problem == 0) problem = seccomp_load(filter.get());  // sets no_new_privs
  return problem == 0
             ? std::string()
             : "the seccomp filter cannot be installed: " + std::generic_category().message(-problem);
}

}  // namespace troupe::sandbox
