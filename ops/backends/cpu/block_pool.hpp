// The memory behind all cache blocks: one anonymous mapping, given by the system page by page when first
// written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernel/base/result.hpp"

namespace troupe::ops::cpu {

class block_pool {
 public:
  // Error: bad_config (the system refuses that much address space).
  static result<std::shared_ptr<const block_pool>> open(std::uint32_t blocks, std::uint64_t block_bytes);
  ~block_pool();
  block_pool(const block_pool&) = delete;
  block_pool& operator=(const block_pool&) = delete;

  float* data() const { return data_; }  // 64 readable bytes follow the last block
  std::size_t block_stride() const { return block_bytes_ / sizeof(float); }  // in floats
  std::uint64_t block_bytes() const { return block_bytes_; }
  std::uint32_t blocks() const { return blocks_; }

 private:
  block_pool(float* data, std::size_t mapped, std::uint32_t blocks, std::uint64_t block_bytes)
      : data_(data), mapped_(mapped), blocks_(blocks), block_bytes_(block_bytes) {}

  float* data_;
  std::size_t mapped_;
  std::uint32_t blocks_;
  std::uint64_t block_bytes_;
};

}  // namespace troupe::ops::cpu
