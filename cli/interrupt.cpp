#include "cli/interrupt.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "cli/commands.hpp"

namespace troupe::cli {
namespace {

// Set by a signal handler, read by other threads.
std::atomic<int> count{0};
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void on_interrupt(int) {
  if (++count >= 3) _exit(exit_interrupted);
}

}  // namespace

interrupt_guard::interrupt_guard() {
  count = 0;
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
