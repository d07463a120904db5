// Where a step's inputs, tensors and workspace stand on the device: one piece of memory, cut up by what the steps need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/backends/cuda/cuda_program.hpp"
#include "ops/device/backend.hpp"

namespace troupe::ops::cuda {

inline constexpr std::size_t largest_bucket = 256;

// Sizes that batches of single rows are filled up to: what a captured graph serves.
std::size_t bucket_of(std::size_t rows);
std::size_t buckets_up_to(std::size_t rows);  // how many serve batches of up to so many rows

// How much there is room for.
struct step_capacity {
  std::size_t rows = 0, sequences = 0, parts = 0, blocks = 0;
  std::size_t arena = 0, workspace = 0;  // bytes

  bool holds(const step_capacity& wanted) const;
  void include(const step_capacity& wanted);
  // What steps of the size that the options promise need, on a pool of so many blocks.
  static step_capacity promised(const cuda_program& program, const load_options& options,
                                std::uint32_t pool_blocks);
};

// What a step sends. Its arrays stand one behind the other for the step's own sizes, so that few copies bring them; batches of one bucket
// have them at the same places.
struct step_inputs {
  std::uint32_t* part_counts = nullptr;  // [windows]
  std::int32_t *ids = nullptr, *sources = nullptr, *positions = nullptr;
  std::uint32_t *row_sequences = nullptr, *rows_wanted = nullptr;
  std::uint32_t *sequence_rows = nullptr, *first_positions = nullptr, *slots = nullptr,
                *table_starts = nullptr;
  std::vector<decode_part*> parts;  // per window
  query_tile* tiles = nullptr;
  std::uint32_t* tables = nullptr;

  // Lays all out behind `base`; answers the size, which grows with every number in `c`.
  std::size_t lay_out(char* base, const cuda_program& program, const step_capacity& c);
};

struct step_memory {
  char* inputs = nullptr;
  std::size_t input_bytes = 0;
  float* arena = nullptr;
  char* workspace = nullptr;
  std::vector<float*> angles;  // per rope table: cosines, then sines

  // Lays all out behind `base`; answers the size.
  std::size_t lay_out(char* base, const cuda_program& program, const step_capacity& c);
};

}  // namespace troupe::ops::cuda
