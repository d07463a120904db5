#include "ops/backends/cuda/step_memory.hpp"

#include <algorithm>

namespace troupe::ops::cuda {
namespace {

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

}  // namespace

std::size_t bucket_of(std::size_t rows) {
  if (rows <= 2) return rows;
  if (rows <= 4) return 4;
  if (rows <= 64) return (rows + 7) / 8 * 8;
  return (rows + 31) / 32 * 32;
}

std::size_t buckets_up_to(std::size_t rows) {
  std::size_t count = 0, last = 0;
  for (std::size_t r = 1; r <= std::min(rows, largest_bucket); ++r)
    if (bucket_of(r) != last) {
      last = bucket_of(r);
      ++count;
    }
  return count;
}

bool step_capacity::holds(const step_capacity& w) const {
  return rows >= w.rows && sequences >= w.sequences && parts >= w.parts && blocks >= w.blocks &&
         arena >= w.arena && workspace >= w.workspace;
}

void step_capacity::include(const step_capacity& w) {
  const auto raise = [](std::size_t& own, std::size_t other) { own = std::max(own, other); };
  raise(rows, w.rows);
  raise(sequences, w.sequences);
  raise(parts, w.parts);
  raise(blocks, w.blocks);
  raise(arena, w.arena);
  raise(workspace, w.workspace);
}

step_capacity step_capacity::promised(const cuda_program& program, const load_options& options,
                                      std::uint32_t pool_blocks) {
  step_capacity c;
  c.sequences = std::max<std::size_t>(options.state_slots, 1);
  c.rows = std::max<std::size_t>({options.step_tokens, bucket_of(c.sequences), 16});
  c.sequences = bucket_of(c.sequences);
  c.parts = c.sequences * most_splits(program.context_tokens);
  c.blocks = std::max<std::size_t>(4096, pool_blocks);
  memory_plan plan = program.sharing;
  std::vector<std::size_t> offsets(program.tensors.size());
  c.arena = plan.place(c.rows, c.sequences, offsets) * sizeof(float);
  for (const auto& bytes : program.workspaces)
    c.workspace = std::max(c.workspace, bytes(c.rows, c.sequences, c.parts));
  return c;
}

namespace {

// Hands out places one behind the other, each aligned for whatever reads it.
struct cutter {
  char* base;
  std::size_t at = 0;
  template <class T>
  void take(T*& place, std::size_t count) {
    place = reinterpret_cast<T*>(base + at);
    at += round_up(count * sizeof(T));
  }
};

}  // namespace

std::size_t step_inputs::lay_out(char* base, const cuda_program& program, const step_capacity& c) {
  cutter cut{base};
  cut.take(part_counts, std::max<std::size_t>(1, program.windows.size()));
  cut.take(ids, c.rows);
  cut.take(sources, c.rows);
  cut.take(positions, c.rows);
  cut.take(row_sequences, c.rows);
  cut.take(rows_wanted, c.rows);
  cut.take(sequence_rows, c.sequences + 1);
  cut.take(first_positions, c.sequences);
  cut.take(slots, c.sequences);
  cut.take(table_starts, c.sequences);
  cut.take(tiles, c.rows);
  parts.resize(program.windows.size());
  for (auto& list : parts) cut.take(list, c.parts);
  cut.take(tables, c.blocks);
  return cut.at;
}

std::size_t step_memory::lay_out(char* base, const cuda_program& program, const step_capacity& c) {
  step_inputs ignored;
  cutter cut{base};
  input_bytes = ignored.lay_out(nullptr, program, c);
  cut.take(inputs, input_bytes);
  angles.resize(program.rope_tables.size());
  for (std::size_t i = 0; i < angles.size(); ++i)
    cut.take(angles[i], 2 * c.rows * program.rope_tables[i].frequencies.size());
  cut.take(arena, c.arena / sizeof(float));
  cut.take(workspace, c.workspace);
  return cut.at;
}

}  // namespace troupe::ops::cuda
