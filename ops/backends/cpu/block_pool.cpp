#include "ops/backends/cpu/block_pool.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <limits>
#include <system_error>

#include "kernel/base/text.hpp"

namespace troupe::ops::cpu {

result<std::shared_ptr<const block_pool>> block_pool::open(std::uint32_t blocks, std::uint64_t block_bytes) {
  constexpr std::size_t margin = 64;  // vectors read past the last key
  if (block_bytes != 0 && blocks > (std::numeric_limits<std::size_t>::max() / 2) / block_bytes) {
    return fail(error_code::bad_config, "cache of {} blocks of {} bytes: more than this machine can address",
                blocks, block_bytes);
  }
  const std::size_t mapped = blocks * block_bytes + margin;
  void* data =
      ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return fail(error_code::bad_config, "cache of {} blocks of {} bytes ({}): {}", blocks, block_bytes,
                human_bytes(mapped), std::generic_category().message(errno));
  }
  return std::shared_ptr<const block_pool>(
      new block_pool(static_cast<float*>(data), mapped, blocks, block_bytes));
}

block_pool::~block_pool() {
  ::munmap(data_, mapped_);
}

}  // namespace troupe::ops::cpu
