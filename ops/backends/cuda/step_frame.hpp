// What the ops of a step find: where tensors and the step's inputs stand on the device.
#pragma once

#include <vector>

#include "ops/attention/attention_cuda.hpp"
#include "ops/backends/cuda/gemm.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::ops::cuda {

struct step_frame {
  cudaStream_t stream = nullptr;
  device_limits limits;
  gemm* products = nullptr;

  std::size_t tokens = 0, sequences = 0, logit_rows = 0;  // T, S, R; of a captured batch: its bucket
  float* arena = nullptr;
  const std::size_t* offsets = nullptr;  // of the Program's tensors in the arena
  char* workspace = nullptr;             // of the op at hand

  // On the device.
  const std::int32_t* token_ids = nullptr;         // [T]
  const std::uint32_t* rows_wanted = nullptr;      // [R]
  const std::uint32_t* sequence_rows = nullptr;    // [S+1]
  const std::uint32_t* first_positions = nullptr;  // [S]
  device_tables tables;                            // without parts
  struct part_list {
    const decode_part* parts = nullptr;
    const std::uint32_t* count = nullptr;
    std::size_t limit = 0;  // *count at most
  };
  std::vector<part_list> parts;  // per window of the Program
  std::size_t tile_count = 0;    // prefill tiles
  std::uint32_t* expert_marks =
      nullptr;  // per router, per expert: set where one is chosen; null = not asked for
  float* const* const* states =
      nullptr;  // per state of the Program's native ops: [S] pointers; all on the device
  std::vector<device_floats> cosines, sines;  // per rope table
};

}  // namespace troupe::ops::cuda
