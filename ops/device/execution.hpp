// What every op gets beside its operands: the threads, and scratch memory that is kept from step to step.
//
// Threads: one op at a time; inside it, each worker touches only its own scratch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "ops/device/thread_pool.hpp"

namespace troupe::ops {

// Memory that only grows: after a few steps no op allocates. Contents are lost when it grows.
class scratch_buffer {
 public:
  scratch_buffer() = default;
  scratch_buffer(const scratch_buffer&) = delete;
  scratch_buffer& operator=(const scratch_buffer&) = delete;
  ~scratch_buffer() { release(); }

  // At least `count` elements, aligned to 64 bytes, not initialised.
  template <class T>
  T* take(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes > bytes_) {
      release();
      data_ = ::operator new(bytes + bytes / 2, alignment);
      bytes_ = bytes + bytes / 2;
    }
    return static_cast<T*>(data_);
  }

 private:
  static constexpr std::align_val_t alignment{64};
  void release() {
    if (data_ != nullptr) ::operator delete(data_, alignment);
    data_ = nullptr;
    bytes_ = 0;
  }

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class execution {
 public:
  // Parts of an op's scratch that are shared by its workers.
  enum shared_slot : std::size_t {
    entries,
    row_pointers,
    gate,
    up,
    expert_output,
    tasks,
    workspace,
    shared_slots
  };

  explicit execution(thread_pool& threads) : threads_(threads), own_(threads.size()) {}

  thread_pool& threads() { return threads_; }
  scratch_buffer& own(unsigned worker) { return own_[worker]; }
  scratch_buffer& shared(shared_slot slot) { return shared_[slot]; }

 private:
  thread_pool& threads_;
  std::vector<scratch_buffer> own_;
  scratch_buffer shared_[shared_slots];
};

}  // namespace troupe::ops
