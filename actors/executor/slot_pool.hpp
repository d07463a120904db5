// Places for the recurrent state of sequences: as many as the scheduler's batch, numbered from 0. A place is free again when its
// holder is gone, however that came about. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace troupe {

class slot_pool {
 public:
  explicit slot_pool(std::uint32_t slots) {
    for (std::uint32_t i = slots; i > 0; --i) free_.push_back(i - 1);
  }
  slot_pool(const slot_pool&) = delete;
  slot_pool& operator=(const slot_pool&) = delete;

  // A place that is held. Outlived by its pool.
  class slot {
   public:
    slot(slot&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), number_(other.number_) {}
    slot& operator=(slot&&) = delete;
    ~slot() {
      if (pool_ != nullptr) pool_->free_.push_back(number_);
    }
    std::uint32_t number() const { return number_; }

   private:
    friend class slot_pool;
    slot(slot_pool* pool, std::uint32_t number) : pool_(pool), number_(number) {}
    slot_pool* pool_;
    std::uint32_t number_;
  };

  std::optional<slot> take() {
    if (free_.empty()) return std::nullopt;
    const std::uint32_t number = free_.back();
    free_.pop_back();
    return slot(this, number);
  }
  std::size_t free() const { return free_.size(); }

 private:
  std::vector<std::uint32_t> free_;
};

}  // namespace troupe
