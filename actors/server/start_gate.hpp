// Waits until every model has been loaded once, or something ends the start before. Any thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <set>

#include "kernel/base/ids.hpp"
#include "kernel/base/result.hpp"

namespace troupe {

class start_gate {
 public:
  explicit start_gate(std::size_t models) : models_(models) {}

  void loaded(model_id model) {
    const std::lock_guard lock(guard_);
    loaded_.insert(model.value);
    changed_.notify_all();
  }

  // Ends the start; only the first reason counts. False = the start was over, well or not: somebody else must tell.
  bool fail_with(const error& why) {
    const std::lock_guard lock(guard_);
    if (problem_ || loaded_.size() >= models_) return false;
    problem_ = why;
    changed_.notify_all();
    return true;
  }

  result<void> wait() {
    std::unique_lock lock(guard_);
    changed_.wait(lock, [this] { return problem_ || loaded_.size() >= models_; });
    if (problem_) return fail(*problem_);
    return {};
  }

 private:
  std::size_t models_;
  std::mutex guard_;
  std::condition_variable changed_;
  std::set<std::uint32_t> loaded_;
  std::optional<error> problem_;
};

}  // namespace troupe
