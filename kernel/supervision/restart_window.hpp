// Counts restarts in a sliding span of time.
#pragma once

#include <chrono>
#include <deque>

namespace troupe::supervision {

class restart_window {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  restart_window(unsigned at_most, std::chrono::milliseconds within) : at_most_(at_most), within_(within) {}

  // Notes one restart at `now`; false = that was one too many.
  bool allow(time_point now) {
    while (!restarts_.empty() && now - restarts_.front() >= within_) restarts_.pop_front();
    restarts_.push_back(now);
    return restarts_.size() <= at_most_;
  }

 private:
  unsigned at_most_;
  std::chrono::milliseconds within_;
  std::deque<time_point> restarts_;
};

}  // namespace troupe::supervision
