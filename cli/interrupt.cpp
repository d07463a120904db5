#include "cli/interrupt.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <utility>

#include "cli/commands.hpp"

namespace troupe::cli {
namespace {

// Set by a signal handler, read by other threads.
std::atomic<int> count{0};
static_assert(std::atomic<int>::is_always_lock_free);

// Readable since the first Ctrl-C. The signal may come before a wait begins, and on any thread: neither loses it.
int pressed_event() {
  static const int descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return descriptor;
}

extern "C" void on_interrupt(int) {
  if (++count >= 3) _exit(exit_interrupted);
  const int before = errno;
  const std::uint64_t one = 1;
  static_cast<void>(::write(pressed_event(), &one, sizeof one) > 0);
  errno = before;
}

}  // namespace

interrupt_guard::interrupt_guard() {
  clear();  // makes the event, too
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: a read must return
  sigaction(SIGINT, &action, &before_);
}

interrupt_guard::~interrupt_guard() {
  sigaction(SIGINT, &before_, nullptr);
}

bool interrupt_guard::pressed() {
  return count > 0;
}

void interrupt_guard::clear() {
  count = 0;
  std::uint64_t times = 0;
  static_cast<void>(::read(pressed_event(), &times, sizeof times) > 0);
}

bool interrupt_guard::wait_for(int descriptor) {
  while (!pressed()) {
    pollfd both[2] = {{descriptor, POLLIN, 0}, {pressed_event(), POLLIN, 0}};
    if (::poll(both, 2, -1) > 0 && both[0].revents != 0) return !pressed();
  }
  return false;
}

cancel_on_interrupt::cancel_on_interrupt(std::function<void()> cancel)
    : thread_([this, cancel = std::move(cancel)] {
        std::unique_lock lock(mutex_);
        while (!changed_.wait_for(lock, std::chrono::milliseconds(20), [this] { return done_; }))
          if (interrupt_guard::pressed()) return cancel();
      }) {}

cancel_on_interrupt::~cancel_on_interrupt() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

}  // namespace troupe::cli
