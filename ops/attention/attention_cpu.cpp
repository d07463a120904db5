// Online softmax (arXiv 2205.14135) over tiles of positions. A task is some neighbouring queries of one
// sequence with all query heads of one key/value head: they read the same keys and values.
//
// Bit for bit the same for any cut into tasks, steps and blocks: tiles begin at multiples of tile_tokens; a
// score is one chain over d; maximum and sum run over lanes by position in the tile; values are added in
// ascending position, and only those that the query may see.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/attention/attention.hpp"

// clang-format off
#include "ops/device/simd_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention/attention_cpu.cpp"
#include <hwy/foreach_target.h>  // before highway.h
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

#ifndef TROUPE_OPS_ATTENTION_TASK
#define TROUPE_OPS_ATTENTION_TASK
namespace troupe::ops {
namespace {

constexpr std::size_t tile_tokens = 128;
constexpr std::size_t task_rows = 32;   // query heads times queries, about
constexpr std::size_t most_lanes = 16;  // of any instruction set used here

struct attention_task {
  std::uint32_t sequence;
  std::uint32_t first;  // rows of the step
  std::uint32_t last;
};

struct attention_work {
  activations y;
  const_activations q;
  kv_cache cache;
  attention_batch batch;
  attention_shape shape;

  std::size_t group() const { return shape.heads / shape.kv_heads; }
  std::size_t queries_per_task() const { return std::max<std::size_t>(1, task_rows / group()); }
  std::size_t most_rows() const { return queries_per_task() * group(); }
  std::size_t padded_dim() const { return (shape.head_dim + most_lanes - 1) / most_lanes * most_lanes; }
  static constexpr std::size_t padded_tile() { return tile_tokens + most_lanes; }
  std::size_t scratch_floats() const { return most_rows() * (padded_tile() + most_lanes + padded_dim() + 1); }
};

// State of a task's rows between tiles. Row r: query r / G, query head r % G of the group.
struct attention_rows {
  std::size_t count = 0;
  const float** q = nullptr;     // [rows] to [Dh]
  std::size_t* begin = nullptr;  // [rows] positions seen: [begin, end)
  std::size_t* end = nullptr;
  float* scores = nullptr;  // [rows, padded_tile] then probabilities, of the current tile
  float* sums = nullptr;    // [rows, most_lanes]
  float* out = nullptr;     // [rows, padded_dim]
  float* most = nullptr;    // [rows]
};

}  // namespace
}  // namespace troupe::ops
#endif

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using lanes_f32 = hn::ScalableTag<float>;
using vector_f32 = hn::Vec<lanes_f32>;

// scores[r][0..count) = scale · q[r] · key, for keys side by side at `keys` ([Dh], `stride` apart).
// Whole vectors are stored: up to a vector's length more than `count`.
template <int Rows>
HWY_INLINE void score_keys(const float* const* HWY_RESTRICT q, const float* HWY_RESTRICT keys,
                           std::size_t stride, std::size_t head_dim, std::size_t count, float scale,
                           float* HWY_RESTRICT scores) {
  const lanes_f32 d;
  for (std::size_t j = 0; j < count; j += hn::Lanes(d)) {
    vector_f32 dots[Rows];
    for (int r = 0; r < Rows; ++r) dots[r] = hn::Zero(d);
    for (std::size_t i = 0; i < head_dim; ++i) {
      const auto key = hn::LoadU(d, keys + i * stride + j);
      for (int r = 0; r < Rows; ++r) dots[r] = hn::MulAdd(hn::Set(d, q[r][i]), key, dots[r]);
    }
    for (int r = 0; r < Rows; ++r) {
      hn::StoreU(hn::Mul(dots[r], hn::Set(d, scale)), d, scores + r * attention_work::padded_tile() + j);
    }
  }
}

// out[r] += Σ_j weights[r][j] · values[j], j ascending.
template <int Rows>
HWY_INLINE void add_values(float* HWY_RESTRICT out, std::size_t out_stride, const float* HWY_RESTRICT weights,
                           const float* HWY_RESTRICT values, std::size_t head_dim, std::size_t count) {
  const lanes_f32 d;
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t i = 0; i < head_dim; i += 2 * lanes) {
    const std::size_t second = i + lanes < head_dim ? lanes : 0;  // 0: computed twice, stored once more
    vector_f32 low[Rows];
    vector_f32 high[Rows];
    for (int r = 0; r < Rows; ++r) {
      low[r] = hn::LoadU(d, out + r * out_stride + i);
      high[r] = hn::LoadU(d, out + r * out_stride + i + second);
    }
    for (std::size_t j = 0; j < count; ++j) {
      const auto value_low = hn::LoadU(d, values + j * head_dim + i);
      const auto value_high = hn::LoadU(d, values + j * head_dim + i + second);
      for (int r = 0; r < Rows; ++r) {
        const auto weight = hn::Set(d, weights[r * attention_work::padded_tile() + j]);
        low[r] = hn::MulAdd(weight, value_low, low[r]);
        high[r] = hn::MulAdd(weight, value_high, high[r]);
      }
    }
    for (int r = 0; r < Rows; ++r) {
      hn::StoreU(low[r], d, out + r * out_stride + i);
      hn::StoreU(high[r], d, out + r * out_stride + i + second);
    }
  }
}

// Each score s becomes cap · tanh(s / cap). Lane by lane; what is no number stays so.
HWY_INLINE void cap_scores(float* HWY_RESTRICT scores, std::size_t count, float cap) {
  const lanes_f32 d;
  const auto most = hn::Set(d, cap);
  for (std::size_t j = 0; j < count; j += hn::Lanes(d)) {
    const auto score = hn::LoadU(d, scores + j);
    const auto capped = hn::Mul(most, hn::Tanh(d, hn::Div(score, most)));
    hn::StoreU(hn::IfThenElse(hn::IsNaN(score), score, capped), d, scores + j);
  }
}

// Scores of the tile become probabilities relative to the row's running maximum; earlier output is rescaled.
HWY_INLINE void softmax_row(const attention_rows& rows, std::size_t r, std::size_t tile,
                            std::size_t padded_dim, float soft_cap) {
  const lanes_f32 d;
  const std::size_t lanes = hn::Lanes(d);
  const float lowest = -std::numeric_limits<float>::infinity();
  float* HWY_RESTRICT scores = rows.scores + r * attention_work::padded_tile();
  const std::size_t begin = rows.begin[r] > tile ? rows.begin[r] - tile : 0;
  const std::size_t end = rows.end[r] - tile < tile_tokens ? rows.end[r] - tile : tile_tokens;
  const std::size_t padded = (end + lanes - 1) / lanes * lanes;
  if (soft_cap != 0) cap_scores(scores, padded, soft_cap);
  for (std::size_t j = 0; j < begin; ++j) scores[j] = lowest;
  for (std::size_t j = end; j < padded; ++j) scores[j] = lowest;

  auto highest = hn::Set(d, rows.most[r]);
  bool broken = false;  // a score that is no number: Max and Exp would lose it
  for (std::size_t j = 0; j < padded; j += lanes) {
    const auto score = hn::LoadU(d, scores + j);
    broken |= !hn::AllFalse(d, hn::IsNaN(score));
    highest = hn::Max(highest, score);
  }
  const float most = hn::GetLane(hn::MaxOfLanes(d, highest));
  broken |= most == std::numeric_limits<float>::infinity();
  const auto shift = hn::Set(d, most);
  auto sum = hn::Zero(d);
  for (std::size_t j = 0; j < padded; j += lanes) {
    const auto weight = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + j), shift));
    hn::StoreU(weight, d, scores + j);
    sum = hn::Add(sum, weight);
  }
  const auto shrink = hn::Set(d, std::exp(rows.most[r] - most));
  float* HWY_RESTRICT sums = rows.sums + r * most_lanes;
  hn::StoreU(hn::MulAdd(hn::LoadU(d, sums), shrink, sum), d, sums);
  if (broken) hn::StoreU(hn::Set(d, std::numeric_limits<float>::quiet_NaN()), d, sums);  // to the row's end
  float* HWY_RESTRICT out = rows.out + r * padded_dim;
  for (std::size_t i = 0; i < padded_dim; i += lanes)
    hn::StoreU(hn::Mul(hn::LoadU(d, out + i), shrink), d, out + i);
  rows.most[r] = most;
}

// add_values for positions [from, to) of one block, cut to what each of the rows may see.
template <int Rows>
HWY_INLINE void add_seen_values(const attention_rows& rows, std::size_t r, std::size_t tile, std::size_t from,
                                std::size_t to, const float* values, std::size_t head_dim,
                                std::size_t padded_dim) {
  std::size_t common_begin = from;
  std::size_t common_end = to;
  for (int i = 0; i < Rows; ++i) {
    if (rows.begin[r + i] > common_begin) common_begin = rows.begin[r + i];
    if (rows.end[r + i] < common_end) common_end = rows.end[r + i];
  }
  if (common_end < common_begin) common_end = common_begin;
  const auto one_row = [&](std::size_t row, std::size_t begin, std::size_t end) HWY_ATTR {
    if (begin < rows.begin[row]) begin = rows.begin[row];
    if (end > rows.end[row]) end = rows.end[row];
    if (begin >= end) return;
    add_values<1>(rows.out + row * padded_dim, padded_dim,
                  rows.scores + row * attention_work::padded_tile() + (begin - tile),
                  values + (begin - from) * head_dim, head_dim, end - begin);
  };
  for (int i = 0; i < Rows; ++i) one_row(r + i, from, common_begin < to ? common_begin : to);
  if (common_begin < common_end) {
    add_values<Rows>(rows.out + r * padded_dim, padded_dim,
                     rows.scores + r * attention_work::padded_tile() + (common_begin - tile),
                     values + (common_begin - from) * head_dim, head_dim, common_end - common_begin);
  }
  for (int i = 0; i < Rows; ++i) one_row(r + i, common_end < to ? common_end : to, to);
}

void attend_tile(const attention_work& work, const attention_rows& rows,
                 std::span<const std::uint32_t> blocks, std::size_t kv_head, std::size_t tile,
                 std::size_t from, std::size_t to) {
  const auto& cache = work.cache;
  const std::size_t size = cache.block_tokens;
  for (std::size_t j = from; j < to;) {
    const std::size_t next = to < (j / size + 1) * size ? to : (j / size + 1) * size;
    const float* keys = cache.keys(blocks[j / size], kv_head) + j % size;
    std::size_t r = 0;
    const auto score = [&](auto count) HWY_ATTR {
      constexpr int n = decltype(count)::value;
      for (; r + n <= rows.count; r += n) {
        score_keys<n>(rows.q + r, keys, size, cache.head_dim, next - j, work.shape.scale,
                      rows.scores + r * attention_work::padded_tile() + (j - tile));
      }
    };
    score(std::integral_constant<int, 8>{});
    score(std::integral_constant<int, 4>{});
    score(std::integral_constant<int, 1>{});
    j = next;
  }
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (rows.begin[r] < to && rows.end[r] > from)
      softmax_row(rows, r, tile, work.padded_dim(), work.shape.soft_cap);
  }
  for (std::size_t j = from; j < to;) {
    const std::size_t next = to < (j / size + 1) * size ? to : (j / size + 1) * size;
    const float* values = cache.values(blocks[j / size], kv_head) + j % size * cache.head_dim;
    std::size_t r = 0;
    const auto add = [&](auto count) HWY_ATTR {
      constexpr int n = decltype(count)::value;
      for (; r + n <= rows.count; r += n) {
        add_seen_values<n>(rows, r, tile, j, next, values, cache.head_dim, work.padded_dim());
      }
    };
    add(std::integral_constant<int, 8>{});
    add(std::integral_constant<int, 4>{});
    add(std::integral_constant<int, 1>{});
    j = next;
  }
}

void attend(const attention_work& work, const attention_task& task, std::size_t kv_head,
            const attention_rows& rows) {
  const lanes_f32 d;
  const std::size_t width = work.shape.head_dim;
  std::size_t begin = rows.begin[0];
  std::size_t end = 0;
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (rows.begin[r] < begin) begin = rows.begin[r];
    if (rows.end[r] > end) end = rows.end[r];
    rows.most[r] = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < most_lanes; ++i) rows.sums[r * most_lanes + i] = 0;
    for (std::size_t i = 0; i < work.padded_dim(); ++i) rows.out[r * work.padded_dim() + i] = 0;
  }
  const auto blocks = work.batch.block_tables[task.sequence];
  for (std::size_t tile = begin / tile_tokens * tile_tokens; tile < end; tile += tile_tokens) {
    const std::size_t from = begin > tile ? begin : tile;
    const std::size_t to = end < tile + tile_tokens ? end : tile + tile_tokens;
    attend_tile(work, rows, blocks, kv_head, tile, from, to);
  }
  const std::size_t group = work.group();
  for (std::size_t r = 0; r < rows.count; ++r) {
    const float sum = hn::GetLane(hn::SumOfLanes(d, hn::LoadU(d, rows.sums + r * most_lanes)));
    float* y = work.y.row(task.first + r / group) + (kv_head * group + r % group) * width;
    const float* out = rows.out + r * work.padded_dim();
    for (std::size_t i = 0; i < width; ++i) y[i] = out[i] / sum;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::ops {
namespace {

HWY_EXPORT(attend);

std::size_t list_tasks(const attention_work& work, attention_task* tasks) {
  std::size_t count = 0;
  const std::size_t step = work.queries_per_task();
  for (std::size_t s = 0; s + 1 < work.batch.sequence_rows.size(); ++s) {
    const std::size_t last = work.batch.sequence_rows[s + 1];
    for (std::size_t t = work.batch.sequence_rows[s]; t < last; t += step) {
      tasks[count++] = {static_cast<std::uint32_t>(s), static_cast<std::uint32_t>(t),
                        static_cast<std::uint32_t>(std::min(last, t + step))};
    }
  }
  return count;
}

// Lays a task's rows out in a worker's scratch.
attention_rows lay_out(const attention_work& work, const attention_task& task, std::size_t kv_head,
                       scratch_buffer& scratch) {
  const std::size_t most = work.most_rows();
  attention_rows rows;
  rows.count = (task.last - task.first) * work.group();
  auto* bytes = scratch.take<std::byte>(work.scratch_floats() * sizeof(float) +
                                        most * (sizeof(float*) + 2 * sizeof(std::size_t)));
  rows.q = reinterpret_cast<const float**>(bytes);
  rows.begin = reinterpret_cast<std::size_t*>(rows.q + most);
  rows.end = rows.begin + most;
  rows.scores = reinterpret_cast<float*>(rows.end + most);
  rows.sums = rows.scores + most * attention_work::padded_tile();
  rows.out = rows.sums + most * most_lanes;
  rows.most = rows.out + most * work.padded_dim();
  const std::size_t group = work.group();
  for (std::size_t r = 0; r < rows.count; ++r) {
    const std::size_t t = task.first + r / group;
    rows.q[r] = work.q.row(t) + (kv_head * group + r % group) * work.shape.head_dim;
    rows.end[r] = static_cast<std::size_t>(work.batch.positions[t]) + 1;
    const std::size_t window = work.shape.window;
    rows.begin[r] = window != 0 && rows.end[r] > window ? rows.end[r] - window : 0;
  }
  return rows;
}

}  // namespace

void attention_cpu(execution& context, activations y, const_activations q, const_activations k,
                   const_activations v, const kv_cache& cache, const attention_batch& batch,
                   const attention_shape& shape) {
  check_shape(y, batch.positions.size(), shape.heads * shape.head_dim);
  check_shape(q, batch.positions.size(), shape.heads * shape.head_dim);
  write_kv(context, cache, k, v, batch);
  const attention_work work{y, q, cache, batch, shape};
  auto* tasks = context.shared(execution::tasks).take<attention_task>(y.rows + 1);
  const std::size_t count = list_tasks(work, tasks) * shape.kv_heads;
  const auto kernel = HWY_DYNAMIC_DISPATCH(attend);
  context.threads().parallel_for(count, 1, [&](std::size_t begin, std::size_t end, unsigned worker) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t index = count - 1 - i;  // late queries see most: they go first
      const auto& task = tasks[index / shape.kv_heads];
      const std::size_t kv_head = index % shape.kv_heads;
      kernel(work, task, kv_head, lay_out(work, task, kv_head, context.own(worker)));
    }
  });
}

}  // namespace troupe::ops
#endif
