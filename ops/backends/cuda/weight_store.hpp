// A model's weights on the device: places are given while the Program is compiled, at addresses that stay; then all is loaded at once.
//
// Matrices become bf16, or int8 with a scale per row where the Program allows it and int8 is wanted; vectors f32; what native ops get
// stays as the checkpoint stores it. A weight that is used in two forms is there twice. Made-up weights are made on the device.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "ops/backends/cuda/memory.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::ops::cuda {

// The planes of a stacked weight: arrays of pointers on the device.
struct device_planes {
  const void* const* data = nullptr;
  const float* const* scales = nullptr;  // null = bf16
  device_stack stack;
};

class weight_store {
 public:
  using progress = std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

  // `bound`: outlives the loading. Error: bad_config (no addresses).
  static result<weight_store> open(const program::Program& program,
                                   const std::vector<checkpoint::bound_weight>& bound, bool int8);

  // Rank 1 and 2. `exact`: never int8.
  device_matrix matrix(std::uint32_t weight, bool exact = false);
  const float* vector(std::uint32_t weight);
  device_planes planes(std::uint32_t weight);
  const void* const* stored(std::uint32_t weight);  // for native ops

  // What has been asked for so far.
  std::uint64_t bytes() const { return next_; }

  // Puts memory behind the places and fills it: through two pinned buffers, one being filled while the other is copied; conversions
  // run on the device. Returns when all is there. Errors: bad_config (no memory), internal.
  result<void> load(cudaStream_t stream, const progress& tell);

  // For sleep: the memory goes and comes, the addresses stay. What stood there comes back from a copy.
  reserved_range& range() { return range_; }

 private:
  enum class form { bf16, int8, f32, stored };
  struct place {
    std::uint64_t data = 0;    // offset of plane 0
    std::uint64_t stride = 0;  // from plane to plane
    std::uint64_t scales = 0, scale_stride = 0;
    std::uint64_t pointers = 0, scale_pointers = 0;  // arrays of them; 0 = none
  };
  weight_store() = default;
  place& at(std::uint32_t weight, form as, bool with_pointers);
  std::uint64_t take(std::uint64_t bytes);
  std::uint64_t stored_bytes() const;
  template <class Stage, class Tell>
  result<void> fill(Stage& stage, cudaStream_t stream, std::uint32_t weight, form as, const place& where,
                    std::size_t plane, const Tell& tell);
  result<void> write_pointers(cudaStream_t stream, const place& where, std::size_t planes, bool scales);

  const program::Program* program_ = nullptr;
  const std::vector<checkpoint::bound_weight>* bound_ = nullptr;
  bool int8_ = false;
  reserved_range range_;
  std::uint64_t next_ = 0;
  std::map<std::pair<std::uint32_t, form>, place> places_;
};

}  // namespace troupe::ops::cuda
