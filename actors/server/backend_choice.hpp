// Which library computes: of several the first that opens a device.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <vector>

#include "kernel/base/result.hpp"
#include "ops/device/backend.hpp"

namespace troupe {

// Any thread.
class backend_choice {
 public:
  // `libraries`: not empty; the last one is opened whatever it says.
  explicit backend_choice(std::vector<std::filesystem::path> libraries) : libraries_(std::move(libraries)) {}

  // The first library that can be opened; the log says why one is passed over. From then on it is that one: an executor that is
  // started again, because its device failed, does not go to a slower one in silence. Errors: those of ops::open_backend.
  result<std::unique_ptr<ops::backend>> open(const ops::backend_options& wanted);

  // The one that was opened; before that the one that is tried first.
  std::filesystem::path library() const;

 private:
  std::vector<std::filesystem::path> libraries_;
  mutable std::mutex guard_;
  std::size_t next_ = 0;
  bool chosen_ = false;
};

}  // namespace troupe
