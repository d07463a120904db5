// SIGTERM and SIGINT as something to wait for, instead of something that interrupts.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>

namespace troupe::cli {

// Blocks the signals in this thread and in those that it starts later: make one before anything else runs. One per process.
class signal_wait {
 public:
  enum class event { stop_signal, wake, timeout };

  signal_wait() : waiter_(pthread_self()) {
    sigemptyset(&set_);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&set_, signal);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }

  // On the thread that made it.
  event wait() const {
    int signal = 0;
    while (sigwait(&set_, &signal) != 0) {
    }
    return signal == SIGUSR1 ? event::wake : event::stop_signal;
  }

  // The same, until `end`.
  event wait_until(std::chrono::steady_clock::time_point end) const {
    while (true) {
      const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(
          std::max(end - std::chrono::steady_clock::now(), std::chrono::steady_clock::duration::zero()));
      const timespec limit{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
      const int signal = sigtimedwait(&set_, nullptr, &limit);
      if (signal >= 0) return signal == SIGUSR1 ? event::wake : event::stop_signal;
      if (errno == EAGAIN) return event::timeout;
    }
  }

  // Lets wait() return; any thread.
  void wake() const { pthread_kill(waiter_, SIGUSR1); }

 private:
  sigset_t set_{};
  pthread_t waiter_;
};

}  // namespace troupe::cli
