// SIGTERM and SIGINT as something to wait for, instead of something that interrupts.
#pragma once

#include <pthread.h>

#include <csignal>

namespace troupe::cli {

// Blocks the signals in this thread and in those that it starts later: make one before anything else runs. One per process.
class signal_wait {
 public:
  enum class event { stop_signal, wake };

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

  // Lets wait() return; any thread.
  void wake() const { pthread_kill(waiter_, SIGUSR1); }

 private:
  sigset_t set_{};
  pthread_t waiter_;
};

}  // namespace troupe::cli
