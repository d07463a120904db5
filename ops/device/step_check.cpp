#include "ops/device/step_check.hpp"

#include <algorithm>

namespace troupe::ops {

result<void> step_check::check(const step_batch& batch) const {
  const std::size_t rows = batch.tokens.size();
  const auto& starts = batch.sequence_rows;
  if (batch.positions.size() != rows) {
    return fail(error_code::internal, "step: {} tokens but {} positions", rows, batch.positions.size());
  }
  if (starts.empty() || starts.front() != 0 || starts.back() != rows ||
      !std::is_sorted(starts.begin(), starts.end())) {
    return fail(error_code::internal, "step: sequence rows do not ascend from 0 to {}", rows);
  }
  if (!batch.token_sources.empty() && batch.token_sources.size() != rows) {
    return fail(error_code::internal, "step: {} tokens but {} sources of them", rows,
                batch.token_sources.size());
  }
  for (std::size_t t = 0; t < rows; ++t) {
    const std::int32_t token = batch.tokens[t];
    if (!batch.token_sources.empty() && batch.token_sources[t] >= 0) {
      if (static_cast<std::size_t>(batch.token_sources[t]) < sampled_before_) continue;
      return fail(error_code::internal, "step: row {} continues behind sample {} of {} in the step before", t,
                  batch.token_sources[t], sampled_before_);
    }
    if (token < 0 || static_cast<std::size_t>(token) >= limits_.vocabulary) {
      return fail(error_code::internal, "step: token {} is not in [0, {})", token, limits_.vocabulary);
    }
  }
  for (std::size_t i = 0; i < batch.logit_rows.size(); ++i) {
    if (batch.logit_rows[i] >= rows || (i != 0 && batch.logit_rows[i] <= batch.logit_rows[i - 1])) {
      return fail(error_code::internal, "step: logit rows do not ascend within [0, {})", rows);
    }
  }
  if (auto ok = check_tables(batch); !ok) return ok;
  return check_slots(batch);
}

result<void> step_check::check_tables(const step_batch& batch) const {
  const std::size_t sequences = batch.sequence_rows.size() - 1;
  if (limits_.block_tokens != 0 && batch.block_tables.size() != sequences) {
    return fail(error_code::internal, "step: {} sequences but {} block tables", sequences,
                batch.block_tables.size());
  }
  for (std::size_t s = 0; s < sequences; ++s) {
    const std::size_t first = batch.sequence_rows[s];
    const std::size_t last = batch.sequence_rows[s + 1];
    if (first == last) continue;
    for (std::size_t t = first; t < last; ++t) {
      if (batch.positions[t] < 0 || (t != first && batch.positions[t] != batch.positions[t - 1] + 1)) {
        return fail(error_code::internal, "step: positions of sequence {} do not ascend by one", s);
      }
    }
    if (limits_.block_tokens == 0) continue;
    const auto& table = batch.block_tables[s];
    const std::size_t needed = static_cast<std::size_t>(batch.positions[last - 1]) / limits_.block_tokens + 1;
    if (table.size() < needed) {
      return fail(error_code::internal, "step: sequence {} has {} cache blocks and needs {}", s, table.size(),
                  needed);
    }
    for (std::size_t i = 0; i < needed; ++i) {
      if (table[i] < limits_.blocks) continue;
      return fail(error_code::internal, "step: sequence {} names cache block {} of {}", s, table[i],
                  limits_.blocks);
    }
  }
  return {};
}

// A sequence's state must be where its first row goes on, and its own.
result<void> step_check::check_slots(const step_batch& batch) const {
  if (!limits_.states) return {};
  const std::size_t sequences = batch.sequence_rows.size() - 1;
  if (batch.state_slots.size() != sequences) {
    return fail(error_code::internal, "step: {} sequences but {} state slots", sequences,
                batch.state_slots.size());
  }
  std::vector<bool> taken(limits_.state_slots);
  for (std::size_t s = 0; s < sequences; ++s) {
    const std::uint32_t slot = batch.state_slots[s];
    if (slot >= limits_.state_slots || taken[slot]) {
      return fail(error_code::internal, "step: sequence {} names state slot {} of {}{}", s, slot,
                  limits_.state_slots, slot < limits_.state_slots ? ", which another one has" : "");
    }
    taken[slot] = true;
    const std::size_t first = batch.sequence_rows[s];
    if (first == batch.sequence_rows[s + 1] || batch.positions[first] == 0) continue;
    if (static_cast<std::uint32_t>(batch.positions[first]) != next_positions_[slot]) {
      return fail(error_code::internal, "step: sequence {} goes on at position {}, its state at {}", s,
                  batch.positions[first], next_positions_[slot]);
    }
  }
  return {};
}

void step_check::enter(const step_batch& batch) {
  if (!limits_.states) return;
  for (std::size_t s = 0; s + 1 < batch.sequence_rows.size(); ++s) {
    const std::size_t first = batch.sequence_rows[s], end = batch.sequence_rows[s + 1];
    if (first != end)
      next_positions_[batch.state_slots[s]] = static_cast<std::uint32_t>(batch.positions[end - 1]) + 1;
  }
}

}  // namespace troupe::ops
