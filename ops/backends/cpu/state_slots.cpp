#include "ops/backends/cpu/state_slots.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>

#include "kernel/base/text.hpp"

namespace troupe::ops::cpu {

result<std::unique_ptr<state_slots>> state_slots::open(std::uint32_t slots, std::size_t floats) {
  std::unique_ptr<state_slots> made(new state_slots);
  made->slots_ = slots;
  made->floats_ = floats;
  made->stride_ = (floats + 15) / 16 * 16;
  if (slots == 0 || floats == 0) return made;
  const auto refused = [&](const std::string& why) {
    return fail(error_code::bad_config,
                "scheduler.max_sequences: no room for the recurrent state of {} sequences of {} each: {}",
                slots, human_bytes(floats * sizeof(float)), why);
  };
  if (made->stride_ > std::numeric_limits<std::size_t>::max() / 2 / sizeof(float) / slots)
    return refused("more than this machine can address");
  void* data = ::mmap(nullptr, slots * made->stride_ * sizeof(float), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return refused(std::generic_category().message(errno));
  made->data_ = static_cast<float*>(data);
  return made;
}

state_slots::~state_slots() {
  if (data_ != nullptr) ::munmap(data_, slots_ * stride_ * sizeof(float));
}

void state_slots::clear(std::size_t i) {
  std::fill_n(slot(i), floats_, 0.0f);
}

}  // namespace troupe::ops::cpu
