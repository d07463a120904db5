// Rows are grouped by expert, so that an expert's weights are read once per step however many rows chose it.
// Two passes over (expert, columns): gate, up and activation; down. Then each row adds its experts up.
#include <algorithm>
#include <cmath>

#include "ops/moe/experts.hpp"

// clang-format off
#include "ops/device/simd_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/moe/experts_cpu.cpp"
#include <hwy/foreach_target.h>  // before highway.h
#include <hwy/highway.h>
#include "ops/activation/activate-inl.hpp"
#include "ops/linear/dot_tile-inl.hpp"
// clang-format on

#ifndef TROUPE_OPS_EXPERTS_PLAN
#define TROUPE_OPS_EXPERTS_PLAN
namespace troupe::ops {
namespace {

// An entry is one (row, expert) pair; entries are sorted by expert, then by row.
struct expert_group {
  std::uint32_t expert;
  std::uint32_t first;  // entries [first, last)
  std::uint32_t last;
};

struct expert_plan {
  const expert_group* groups = nullptr;  // experts that any row chose
  std::size_t group_count = 0;
  const float** inputs = nullptr;  // [entries] rows of x
  float* gate = nullptr;           // [entries, F]; then act(gate) * up
  float* up = nullptr;             // [entries, F]
  float* output = nullptr;         // [entries, D]
  std::size_t hidden = 0;          // F
  std::size_t width = 0;           // D
};

}  // namespace
}  // namespace troupe::ops
#endif

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {

// gate and up of one expert for columns [begin, end) of F, then the activation.
template <class Stored>
void gate_up_columns(const expert_plan& plan, const expert_group& group, const expert_weights& mlp,
                     std::size_t begin, std::size_t end) {
  const weight_matrix& gate = mlp.gate[group.expert];
  const weight_matrix& up = mlp.up[group.expert];
  for (std::size_t f = begin; f < end; f += 2) {
    const std::size_t second = f + 1 < end ? f + 1 : f;
    const std::byte* w[tile_columns] = {gate.row(f), gate.row(second), up.row(f), up.row(second)};
    for (std::size_t i = group.first; i < group.last; i += tile_rows) {
      const int rows = static_cast<int>(group.last - i < tile_rows ? group.last - i : tile_rows);
      float sums[tile_rows][tile_columns];
      dot_rows<Stored>(rows, plan.inputs + i, w, gate.columns, sums);
      for (int r = 0; r < rows; ++r) {
        plan.gate[(i + r) * plan.hidden + f] = sums[r][0];
        plan.gate[(i + r) * plan.hidden + second] = sums[r][1];
        plan.up[(i + r) * plan.hidden + f] = sums[r][2];
        plan.up[(i + r) * plan.hidden + second] = sums[r][3];
      }
    }
  }
  for (std::size_t i = group.first; i < group.last; ++i) {
    float* gated = plan.gate + i * plan.hidden + begin;
    activate_row(mlp.act, gated, gated, plan.up + i * plan.hidden + begin, end - begin);
  }
}

template <class Stored>
void down_columns(const expert_plan& plan, const expert_group& group, const weight_matrix& down,
                  std::size_t begin, std::size_t end) {
  for (std::size_t m = begin; m < end; m += tile_columns) {
    const int columns = static_cast<int>(end - m < tile_columns ? end - m : tile_columns);
    const std::byte* w[tile_columns];
    for (int c = 0; c < tile_columns; ++c) w[c] = down.row(m + (c < columns ? c : 0));
    for (std::size_t i = group.first; i < group.last; i += tile_rows) {
      const int rows = static_cast<int>(group.last - i < tile_rows ? group.last - i : tile_rows);
      const float* hidden[tile_rows];
      for (int r = 0; r < rows; ++r) hidden[r] = plan.gate + (i + r) * plan.hidden;
      float sums[tile_rows][tile_columns];
      dot_rows<Stored>(rows, hidden, w, down.columns, sums);
      for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < columns; ++c) plan.output[(i + r) * plan.width + m + c] = sums[r][c];
      }
    }
  }
}

void gate_up(const expert_plan& plan, const expert_group& group, const expert_weights& mlp, std::size_t begin,
             std::size_t end) {
  with_stored(mlp.gate[group.expert].dtype,
              [&](auto stored) HWY_ATTR { gate_up_columns<decltype(stored)>(plan, group, mlp, begin, end); });
}

void down(const expert_plan& plan, const expert_group& group, const expert_weights& mlp, std::size_t begin,
          std::size_t end) {
  const weight_matrix& matrix = mlp.down[group.expert];
  with_stored(matrix.dtype,
              [&](auto stored) HWY_ATTR { down_columns<decltype(stored)>(plan, group, matrix, begin, end); });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::ops {
namespace {

HWY_EXPORT(gate_up);
HWY_EXPORT(down);

constexpr std::size_t strip = 16;                  // columns of F or D that one work item computes
constexpr std::size_t part_operations = 64 << 10;  // multiply-adds that are worth a hand-over between threads

std::size_t strips_of(std::size_t columns) {
  return (columns + strip - 1) / strip;
}

struct sorted_entries {
  std::uint32_t* of_row = nullptr;  // [T, k] entries of each row, by ascending expert
  float* weight = nullptr;          // [T, k] in the same order
};

// Counting sort of the (row, expert) pairs; fills plan.groups and plan.inputs.
sorted_entries sort_by_expert(execution& context, expert_plan& plan, const_activations x,
                              const_activations weights, const_indices experts, std::size_t expert_count) {
  const std::size_t entries = experts.rows * experts.width;
  auto* memory = context.shared(execution::entries).take<std::uint32_t>(2 * entries + 4 * expert_count);
  sorted_entries sorted{memory, reinterpret_cast<float*>(memory + entries)};
  auto* groups = reinterpret_cast<expert_group*>(memory + 2 * entries);
  std::uint32_t* next = memory + 2 * entries + 3 * expert_count;  // [E] next free entry
  plan.inputs = context.shared(execution::row_pointers).take<const float*>(entries);
  plan.groups = groups;

  std::fill(next, next + expert_count, 0);
  for (std::size_t i = 0; i < entries; ++i) ++next[experts.data[i]];
  std::uint32_t first = 0;
  for (std::uint32_t e = 0; e < expert_count; ++e) {
    const std::uint32_t count = next[e];
    next[e] = first;
    if (count != 0) groups[plan.group_count++] = {e, first, first + count};
    first += count;
  }
  for (std::size_t t = 0; t < x.rows; ++t) {
    const std::size_t k = experts.width;
    for (std::size_t i = 0; i < k; ++i) {
      const std::int32_t expert = experts.row(t)[i];
      std::size_t rank = 0;
      for (std::size_t j = 0; j < k; ++j) rank += experts.row(t)[j] < expert ? 1 : 0;
      const std::uint32_t entry = next[expert]++;
      plan.inputs[entry] = x.row(t);
      sorted.of_row[t * k + rank] = entry;
      sorted.weight[t * k + rank] = weights.row(t)[i];
    }
  }
  return sorted;
}

// Runs kernel(plan, group, mlp, begin, end) over `columns` columns of every group, in strips.
template <class Kernel>
void over_strips(execution& context, const expert_plan& plan, const expert_weights& mlp, std::size_t columns,
                 std::size_t operations_per_column, const Kernel& kernel) {
  const std::size_t strips = strips_of(columns);
  const std::size_t grain = part_operations / (strip * operations_per_column + 1);
  context.threads().parallel_for(
      plan.group_count * strips, grain, [&](std::size_t begin, std::size_t end, unsigned) {
        while (begin < end) {
          const std::size_t from = begin % strips;
          const std::size_t to = std::min(strips, from + (end - begin));
          kernel(plan, plan.groups[begin / strips], mlp, from * strip, std::min(columns, to * strip));
          begin += to - from;
        }
      });
}

void add_experts(execution& context, const expert_plan& plan, const sorted_entries& sorted, std::size_t k,
                 activations y) {
  context.threads().parallel_for(
      y.rows, (32 << 10) / (y.width * k + 1) + 1, [&](std::size_t first, std::size_t last, unsigned) {
        for (std::size_t t = first; t < last; ++t) {
          float* to = y.row(t);
          std::fill(to, to + y.width, 0.0f);
          for (std::size_t i = 0; i < k; ++i) {
            const float weight = sorted.weight[t * k + i];
            const float* from = plan.output + sorted.of_row[t * k + i] * plan.width;
            for (std::size_t d = 0; d < y.width; ++d) to[d] += weight * from[d];
          }
        }
      });
}

}  // namespace

void experts_cpu(execution& context, activations y, const_activations x, const_activations weights,
                 const_indices experts, const expert_weights& mlp) {
  check_shape(y, x.rows, x.width);
  check_shape(weights, x.rows, experts.width);
  if (x.rows == 0) return;
  expert_plan plan;
  plan.hidden = mlp.gate[0].rows;
  plan.width = x.width;
  const std::size_t entries = x.rows * experts.width;
  const auto sorted = sort_by_expert(context, plan, x, weights, experts, mlp.gate.size());
  plan.gate = context.shared(execution::gate).take<float>(entries * plan.hidden);
  plan.up = context.shared(execution::up).take<float>(entries * plan.hidden);
  plan.output = context.shared(execution::expert_output).take<float>(entries * plan.width);

  const std::size_t rows_per_group = entries / std::max<std::size_t>(1, plan.group_count) + 1;  // about
  over_strips(context, plan, mlp, plan.hidden, 2 * plan.width * rows_per_group,
              HWY_DYNAMIC_DISPATCH(gate_up));
  over_strips(context, plan, mlp, plan.width, plan.hidden * rows_per_group, HWY_DYNAMIC_DISPATCH(down));
  add_experts(context, plan, sorted, experts.width, y);
}

}  // namespace troupe::ops
#endif
