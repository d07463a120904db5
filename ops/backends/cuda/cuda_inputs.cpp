// What a step sends to the device.
#include <algorithm>

#include "ops/backends/cuda/cuda_model.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {

// 0: this batch is not one of single rows.
std::size_t cuda_model::bucket_for(const step_batch& batch) const {
  const std::size_t rows = batch.tokens.size(), sequences = batch.sequence_rows.size() - 1;
  if (rows == 0 || rows != sequences || batch.logit_rows.size() != rows || rows > largest_bucket) return 0;
  for (std::size_t s = 0; s < sequences; ++s)
    if (batch.sequence_rows[s + 1] - batch.sequence_rows[s] != 1) return 0;
  return bucket_of(rows);
}

void cuda_model::write_attention(const step_batch& batch) {
  for (auto& list : parts_) list.clear();
  tiles_.clear();
  tables_.clear();
  table_starts_.clear();
  for (std::size_t s = 0; s + 1 < batch.sequence_rows.size(); ++s) {
    const std::uint32_t first = batch.sequence_rows[s], end = batch.sequence_rows[s + 1];
    table_starts_.push_back(static_cast<std::uint32_t>(tables_.size()));
    if (program_.kv_numbers == 0 || first == end) continue;
    const auto blocks = static_cast<std::size_t>(batch.positions[end - 1]) / kv_->block_tokens + 1;
    tables_.insert(tables_.end(), batch.block_tables[s].begin(),
                   batch.block_tables[s].begin() + static_cast<std::ptrdiff_t>(blocks));
    if (end - first > 1 && program_.tile_tokens > 0) {
      for (std::uint32_t t = first; t < end; t += program_.tile_tokens)
        tiles_.push_back({t, std::min(program_.tile_tokens, end - t)});
      continue;
    }
    for (std::size_t w = 0; w < parts_.size(); ++w)
      for (std::uint32_t t = first; t < end; ++t) {
        const auto seen = static_cast<std::uint32_t>(batch.positions[t]) + 1, window = program_.windows[w];
        add_decode_parts(parts_[w], t, window != 0 && seen > window ? seen - window : 0, seen);
      }
  }
}

// `rows`, `sequences`, `wanted`: of the launches; what the batch does not fill, rows do that belong to no sequence.
void cuda_model::write_inputs(const step_batch& batch, std::size_t rows, std::size_t sequences,
                              std::size_t wanted) {
  const std::size_t tokens = batch.tokens.size(), own = batch.sequence_rows.size() - 1;
  const auto put = [&](auto* place, std::size_t count, const auto& values, auto filler) {
    const auto to = image_.at(place, count);
    const auto end = std::copy(values.begin(), values.end(), to.begin());
    std::fill(end, to.end(), filler);
  };
  const auto counts = image_.at(in_.part_counts, std::max<std::size_t>(1, parts_.size()));
  counts[0] = 0;
  for (std::size_t w = 0; w < parts_.size(); ++w) counts[w] = static_cast<std::uint32_t>(parts_[w].size());
  put(in_.ids, rows, batch.tokens, -1);
  put(in_.sources, rows, batch.token_sources, -1);
  put(in_.positions, rows, batch.positions, -1);
  const auto row_sequences = image_.at(in_.row_sequences, rows);
  std::fill(row_sequences.begin(), row_sequences.end(), 0u);
  for (std::size_t s = 0; s < own; ++s)
    for (std::uint32_t t = batch.sequence_rows[s]; t < batch.sequence_rows[s + 1]; ++t)
      row_sequences[t] = static_cast<std::uint32_t>(s);
  const auto asked = image_.at(in_.rows_wanted, wanted);
  for (std::size_t i = 0; i < wanted; ++i)
    asked[i] = i < batch.logit_rows.size() ? batch.logit_rows[i] : static_cast<std::uint32_t>(i);
  put(in_.sequence_rows, sequences + 1, batch.sequence_rows, static_cast<std::uint32_t>(tokens));
  const auto first_positions = image_.at(in_.first_positions, sequences);
  for (std::size_t s = 0; s < sequences; ++s) {
    const bool any = s < own && batch.sequence_rows[s] != batch.sequence_rows[s + 1];
    first_positions[s] = any ? static_cast<std::uint32_t>(batch.positions[batch.sequence_rows[s]]) : 0;
  }
  const bool states = program_.state_floats != 0;
  put(in_.slots, sequences, states ? batch.state_slots : std::span<const std::uint32_t>(), 0u);
  put(in_.table_starts, sequences, table_starts_, 0u);
  image_.put(in_.tiles, tiles_);
  for (std::size_t w = 0; w < parts_.size(); ++w) image_.put(in_.parts[w], parts_[w]);
  image_.put(in_.tables, tables_);
}

result<void> cuda_model::enter_states(const step_batch& batch) {
  if (program_.state_floats == 0) return {};
  for (std::size_t s = 0; s + 1 < batch.sequence_rows.size(); ++s) {
    const std::uint32_t first = batch.sequence_rows[s];
    if (first == batch.sequence_rows[s + 1] || batch.positions[first] != 0) continue;
    if (auto done = ok(cudaMemsetAsync(states_.as<float>() + batch.state_slots[s] * state_stride_, 0,
                                       program_.state_floats * sizeof(float), device_->stream),
                       "cudaMemsetAsync of a state");
        !done)
      return done;
  }
  return {};
}

}  // namespace troupe::ops::cuda
