#include "actors/server/backend_choice.hpp"

#include "kernel/telemetry/log.hpp"
#include "ops/device/open_backend.hpp"

namespace troupe {

result<std::unique_ptr<ops::backend>> backend_choice::open(const ops::backend_options& wanted) {
  const std::lock_guard lock(guard_);
  for (; !chosen_ && next_ + 1 < libraries_.size(); ++next_) {
    auto opened = ops::open_backend(libraries_[next_], wanted);
    chosen_ = opened.has_value();
    if (opened) return opened;
    log::info("executor", "backend not used",
              {{"library", libraries_[next_].string()}, {"reason", opened.error().text}});
  }
  return ops::open_backend(libraries_[next_], wanted);
}

std::filesystem::path backend_choice::library() const {
  const std::lock_guard lock(guard_);
  return libraries_[next_];
}

}  // namespace troupe
