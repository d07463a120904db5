// Ctrl-C as something to ask about instead of the end of the process. While one lives, SIGINT only sets a mark that can be
// waited for; three without a clear() in between end the process.
#pragma once

#include <condition_variable>
#include <csignal>
#include <functional>
#include <mutex>
#include <thread>

namespace troupe::cli {

class interrupt_guard {
 public:
  interrupt_guard();
  ~interrupt_guard();
  interrupt_guard(const interrupt_guard&) = delete;
  interrupt_guard& operator=(const interrupt_guard&) = delete;

  // Has it been pressed since the last clear()?
  static bool pressed();
  static void clear();
  // Waits until `descriptor` can be read (or is at its end). False: Ctrl-C, pressed at any time since the last clear().
  static bool wait_for(int descriptor);

 private:
  struct sigaction before_ {};
};

// While one lives, Ctrl-C calls `cancel` once, on a thread of its own, within 20 ms. Needs an interrupt_guard.
class cancel_on_interrupt {
 public:
  explicit cancel_on_interrupt(std::function<void()> cancel);
  ~cancel_on_interrupt();
  cancel_on_interrupt(const cancel_on_interrupt&) = delete;
  cancel_on_interrupt& operator=(const cancel_on_interrupt&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace troupe::cli
