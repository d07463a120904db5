// A copy of device memory in the host's, taken and brought back at the rate of the link between them.
//
// The host's memory comes in pieces. Threads fill in their pages (large ones where the system has them) and register them with the driver,
// which then copies without a buffer in between; piece n is copied while those behind it are made. Where the driver refuses to register,
// it copies through buffers of its own: the same bytes, slower. Copies have a stream of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::ops::cuda {

class host_copy {
 public:
  // Of `bytes` from `device` on; whoever writes there has finished. Errors: no_room (the host has not so much), internal (the device).
  static result<std::unique_ptr<host_copy>> take(const char* device, std::uint64_t bytes);
  // Gives the memory back, which takes a while.
  ~host_copy();
  host_copy(const host_copy&) = delete;
  host_copy& operator=(const host_copy&) = delete;

  // To `device`, which has memory for bytes(). Returns when all is there. Error: internal (the device).
  result<void> bring_back(char* device) const;

  std::uint64_t bytes() const { return bytes_; }
  // Of these the driver copies without a buffer of its own.
  std::uint64_t registered_bytes() const;

 private:
  host_copy() = default;
  struct piece {
    char* at = nullptr;
    std::uint64_t bytes = 0;
    bool registered = false;
  };
  class maker;
  result<void> reserve(std::uint64_t bytes);

  void* mapping_ = nullptr;
  std::size_t mapped_ = 0;
  std::uint64_t bytes_ = 0;
  std::vector<piece> pieces_;
};

}  // namespace troupe::ops::cuda
