// A stream beside that of the steps, for what goes on meanwhile: loading, sleeping, waking.
#pragma once

#include <utility>

#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {

class side_stream {
 public:
  static result<side_stream> open() {
    side_stream made;
    if (auto done = ok(cudaStreamCreateWithFlags(&made.stream_, cudaStreamNonBlocking), "cudaStreamCreate");
        !done)
      return fail(std::move(done.error()));
    return made;
  }
  side_stream(side_stream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  side_stream& operator=(side_stream&&) = delete;
  // Behind what is on its way.
  ~side_stream() {
    if (stream_ == nullptr) return;
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }
  cudaStream_t get() const { return stream_; }

 private:
  side_stream() = default;
  cudaStream_t stream_ = nullptr;
};

}  // namespace troupe::ops::cuda
