#include "sandbox/cell/fault.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>

#include "sandbox/cell/answer.hpp"
#include "sandbox/cell/sanitized.hpp"
#include "sandbox/cell/symbols.hpp"

namespace troupe::sandbox {

namespace {

constexpr std::size_t handler_stack_bytes = std::size_t{256} << 10;
constexpr std::size_t max_frames = 256;
constexpr std::uintptr_t near_null = std::uintptr_t{64} << 10;
constexpr std::uintptr_t near_stack = std::uintptr_t{64} << 10;
constexpr std::size_t little_memory = std::size_t{16} << 20;

alignas(16) unsigned char handler_stack[handler_stack_bytes];
const char* library = nullptr;
std::span<const std::uint8_t> library_bytes;
bool library_is_open = false;
std::uintptr_t loader_begin = 0, loader_end = 0;

// ---- what a handler finds -----------------------------------------------------------------------------

struct registers {
#if defined(__x86_64__)
  explicit registers(ucontext_t& u) : u_(u) {}
  std::uintptr_t stack() const {
    return static_cast<std::uintptr_t>(u_.uc_mcontext.gregs[REG_RSP]);
  }
  std::uint64_t argument(int i) const {
    static constexpr int order[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10};
    return static_cast<std::uint64_t>(u_.uc_mcontext.gregs[order[i]]);
  }
  void answer(long value) {
    u_.uc_mcontext.gregs[REG_RAX] = value;
  }
#elif defined(__aarch64__)
  explicit registers(ucontext_t& u) : u_(u) {}
  std::uintptr_t stack() const {
    return u_.uc_mcontext.sp;
  }
  std::uint64_t argument(int i) const {
    return u_.uc_mcontext.regs[i];
  }
  void answer(long value) {
    u_.uc_mcontext.regs[0] = static_cast<unsigned long long>(value);
  }
#else
#error "add this machine's registers"
#endif
  // Signals that are blocked where the handler returns to.
  std::uint64_t blocked() const {
    std::uint64_t mask = 0;
    std::memcpy(&mask, &u_.uc_sigmask,
                sizeof mask);  // as the kernel sees it: the rest of a sigset_t is not there
    return mask;
  }
  void block(std::uint64_t mask) {
    std::memcpy(&u_.uc_sigmask, &mask, sizeof mask);
  }

 private:
  ucontext_t& u_;
};

struct trace {
  std::string_view name;
  std::size_t frames = 0;
};

// The innermost frame that is in the module.
_Unwind_Reason_Code look_at(_Unwind_Context* frame, void* context) {
  auto& found = *static_cast<trace*>(context);
  int before_instruction = 0;
  std::uintptr_t at = _Unwind_GetIPInfo(frame, &before_instruction);
  if (before_instruction == 0) --at;  // a return address may belong to the function behind
  Dl_info info = {};
  if (::dladdr(reinterpret_cast<void*>(at), &info) != 0 && info.dli_fname != nullptr &&
      std::strcmp(info.dli_fname, library) == 0) {
    found.name = function_at(library_bytes, at - reinterpret_cast<std::uintptr_t>(info.dli_fbase));
    if (!found.name.empty()) return _URC_END_OF_STACK;
  }
  return ++found.frames < max_frames ? _URC_NO_REASON : _URC_END_OF_STACK;
}

// Two frames: the second, with the name as people write it, may fail to come if the heap is in pieces.
void send_where() {
  trace found;
  _Unwind_Backtrace(&look_at, &found);
  if (found.name.empty()) return;
  send(frame_kind::where, found.name);
  char name[max_text_bytes];
  const std::size_t length = std::min(found.name.size(), sizeof name - 1);
  std::memcpy(name, found.name.data(), length);
  name[length] = '\0';
  int status = 0;
  if (const char* readable = abi::__cxa_demangle(name, nullptr, nullptr, &status); status == 0)
    send(frame_kind::where, std::string_view(readable));
}

// The handlers are gone after one use (SA_RESETHAND), so this ends the process.
[[noreturn]] void die_of(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  ::syscall(SYS_tgkill, ::getpid(), ::gettid(), number);
  ::_exit(128 + number);
}

bool memory_is_used_up() {
  void* more = ::mmap(nullptr, little_memory, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (more == MAP_FAILED) return true;
  ::munmap(more, little_memory);
  return false;
}

void on_fault(int number, siginfo_t* info, void* context) {
  const registers at(*static_cast<ucontext_t*>(context));
  fault_record fault = {fault_kind::signal, 0, static_cast<std::uint64_t>(number)};
  if (number == SIGXCPU) fault.kind = fault_kind::cpu_time;
  if (number == SIGSEGV || number == SIGBUS) {
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    if (address < near_null && !sanitized() && memory_is_used_up())
      fault = {fault_kind::memory, 0, 0};
    else if (address + near_stack > at.stack() && address < at.stack() + near_stack)
      fault.kind = fault_kind::stack_overflow;
  }
  send(fault);
  send_where();
  die_of(number);
}

// ---- system calls that the filter stopped ----------------------------------------------------------------

// rt_sigprocmask, but SIGSYS stays open: blocked, it would end the process without saying which call it was. pthread_create()
// blocks all signals around its own.
void change_mask(registers& r) {
  std::uint64_t wanted = 0;
  const auto* set = reinterpret_cast<const void*>(r.argument(1));
  auto* old = reinterpret_cast<void*>(r.argument(2));
  if (r.argument(3) != sizeof wanted) return r.answer(-EINVAL);
  const std::uint64_t before = r.blocked();
  std::uint64_t mask = before;
  if (set != nullptr) {
    std::memcpy(&wanted, set, sizeof wanted);
    switch (static_cast<int>(r.argument(0))) {
      case SIG_BLOCK:
        mask |= wanted;
        break;
      case SIG_UNBLOCK:
        mask &= ~wanted;
        break;
      case SIG_SETMASK:
        mask = wanted;
        break;
      default:
        return r.answer(-EINVAL);
    }
  }
  if (old != nullptr) std::memcpy(old, &before, sizeof before);
  r.block(mask & ~(std::uint64_t{1} << (SIGSYS - 1)));
  r.answer(0);
}

// The loader opens the module by its path. The cell has no right to open anything: the answer is the descriptor that the
// parent handed over. Other files that the loader looks for are not there for it.
bool stand_in(int call, std::uintptr_t from, registers& r) {
  const bool by_loader = from >= loader_begin && from < loader_end;
  if (call == SYS_openat && by_loader) {
    const bool module =
        !library_is_open && std::strcmp(reinterpret_cast<const char*>(r.argument(1)), library) == 0;
    if (module) library_is_open = true;
    r.answer(module ? module_descriptor : -ENOENT);
    return true;
  }
  if (sanitized() && call == SYS_openat &&
      std::strncmp(reinterpret_cast<const char*>(r.argument(1)), "/proc/self/", 11) == 0) {
    r.answer(-ENOENT);  // its runtime looks for what it has read before
    return true;
  }
  if (call == SYS_rt_sigprocmask) {
    change_mask(r);
    return true;
  }
  // pthread_create() sets a handler for a signal of the C library's own before it starts a thread, which is what should be named.
  // No handler is set.
  if (call == SYS_rt_sigaction && r.argument(0) > SIGSYS && static_cast<int>(r.argument(0)) < SIGRTMIN) {
    r.answer(0);
    return true;
  }
  if (call == SYS_newfstatat) {
    const auto* path = reinterpret_cast<const char*>(r.argument(1));
    if ((r.argument(3) & AT_EMPTY_PATH) != 0 && *path == '\0') {  // fstat(), as newer C libraries call it
      const long answer = ::syscall(SYS_fstat, r.argument(0), r.argument(2));
      r.answer(answer < 0 ? -errno : answer);
      return true;
    }
    if (by_loader) {
      r.answer(-ENOENT);
      return true;
    }
  }
  return false;
}

void on_forbidden(int number, siginfo_t* info, void* context) {
  const int saved = errno;
  registers r(*static_cast<ucontext_t*>(context));
  const int call = info->si_syscall;
  if (stand_in(call, reinterpret_cast<std::uintptr_t>(info->si_call_addr), r)) {
    errno = saved;
    return;
  }
  fault_record fault = {fault_kind::forbidden_call, 0, static_cast<std::uint64_t>(call)};
  if (call == SYS_mmap || call == SYS_mremap)  // only refused for its size
    fault = {fault_kind::memory, 0, r.argument(call == SYS_mmap ? 1 : 2)};
  send(fault);
  send_where();
  ::_exit(128 + number);
}

[[noreturn]] void on_no_memory() {
  send({fault_kind::memory, 0, 0});
  send_where();
  ::_exit(1);
}

// ---- before the module -----------------------------------------------------------------------------------

int find_loader(dl_phdr_info* info, std::size_t, void*) {
  if (info->dlpi_addr != ::getauxval(AT_BASE)) return 0;
  loader_begin = info->dlpi_addr;
  for (int i = 0; i < info->dlpi_phnum; ++i)
    if (const auto& p = info->dlpi_phdr[i]; p.p_type == PT_LOAD)
      loader_end = std::max(loader_end, loader_begin + p.p_vaddr + p.p_memsz);
  return 1;
}

_Unwind_Reason_Code ignore(_Unwind_Context*, void*) {
  return _URC_END_OF_STACK;
}

std::string reason(const char* what) {
  return std::string(what) + ": " + std::generic_category().message(errno);
}

}  // namespace

std::string watch_faults(const std::string& path) {
  library = path.c_str();
  struct stat status = {};
  if (::fstat(module_descriptor, &status) != 0) return reason("the module's descriptor");
  const auto size = static_cast<std::size_t>(status.st_size);
  void* bytes = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, module_descriptor, 0);
  if (bytes != MAP_FAILED) library_bytes = {static_cast<const std::uint8_t*>(bytes), size};
  ::dl_iterate_phdr(&find_loader, nullptr);
  _Unwind_Backtrace(&ignore, nullptr);  // what it sets up at its first use is set up now
  std::set_new_handler(&on_no_memory);

  stack_t stack = {};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof handler_stack;
  if (::sigaltstack(&stack, nullptr) != 0) return reason("a stack for signal handlers");
  struct sigaction action = {};
  sigfillset(&action.sa_mask);
  action.sa_flags = static_cast<int>(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND);
  // A fault within a handler is blocked, and therefore ends the process at once.
  action.sa_sigaction = &on_fault;
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGXCPU})
    if (::sigaction(number, &action, nullptr) != 0) return reason("a signal handler");
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  action.sa_sigaction = &on_forbidden;
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return reason("a signal handler");
  return {};
}

}  // namespace troupe::sandbox
