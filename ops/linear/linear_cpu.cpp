#include <algorithm>

#include "ops/linear/linear.hpp"

// clang-format off
#include "ops/device/simd_targets.hpp"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/linear/linear_cpu.cpp"
#include <hwy/foreach_target.h>  // before highway.h
#include <hwy/highway.h>
#include "ops/linear/dot_tile-inl.hpp"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {

// y[:, m .. m+4) for the rows [first, last) of x.
template <class Stored>
void column_tile(const_activations x, const linear_map& map, std::size_t m, std::size_t first,
                 std::size_t last) {
  const int columns =
      static_cast<int>(map.weight.rows - m < tile_columns ? map.weight.rows - m : tile_columns);
  const std::byte* w[tile_columns];
  float bias[tile_columns] = {};
  for (int c = 0; c < tile_columns; ++c) w[c] = map.weight.row(m + (c < columns ? c : 0));
  if (map.bias.data != nullptr) {
    for (int c = 0; c < columns; ++c) bias[c] = load_element(map.bias.dtype, map.bias.data, m + c);
  }
  for (std::size_t t = first; t < last; t += tile_rows) {
    const int rows = static_cast<int>(last - t < tile_rows ? last - t : tile_rows);
    const float* values[tile_rows];
    for (int r = 0; r < rows; ++r) values[r] = x.row(t + r);
    float sums[tile_rows][tile_columns];
    dot_rows<Stored>(rows, values, w, x.width, sums);
    for (int r = 0; r < rows; ++r) {
      float* y = map.y.row(t + r) + m;
      for (int c = 0; c < columns; ++c) y[c] = map.bias.data != nullptr ? sums[r][c] + bias[c] : sums[r][c];
    }
  }
}

// Column tiles [begin, end) of `map` for the rows [first, last) of x.
void column_tiles(const_activations x, const linear_map& map, std::size_t begin, std::size_t end,
                  std::size_t first, std::size_t last) {
  with_stored(map.weight.dtype, [&](auto stored) HWY_ATTR {
    for (std::size_t tile = begin; tile < end; ++tile) {
      column_tile<decltype(stored)>(x, map, tile * tile_columns, first, last);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::ops {
namespace {

HWY_EXPORT(column_tiles);

constexpr std::size_t columns_per_tile = 4;
constexpr std::size_t block_bytes = 1 << 20;  // rows of x that stay in a core's cache while weights stream by
constexpr std::size_t part_operations = 64 << 10;  // multiply-adds that are worth a hand-over between threads

std::size_t tiles_of(const linear_map& map) {
  return (map.weight.rows + columns_per_tile - 1) / columns_per_tile;
}

}  // namespace

void linear_cpu(execution& context, const_activations x, std::span<const linear_map> maps) {
  std::size_t tiles = 0;
  for (const auto& map : maps) {
    check_shape(map.y, x.rows, map.weight.rows);
    check_shape(x, x.rows, map.weight.columns);
    tiles += tiles_of(map);
  }
  if (x.rows == 0 || tiles == 0) return;

  // Work is (block of rows, column tile), blocks outermost.
  std::size_t block = std::max<std::size_t>(48, block_bytes / (x.width * sizeof(float) + 1));
  const std::size_t threads = context.threads().size();
  if (tiles < 2 * threads)
    block = std::min(block, std::max<std::size_t>(6, (x.rows + 2 * threads - 1) / (2 * threads)));
  block = std::min(block, x.rows);
  const std::size_t blocks = (x.rows + block - 1) / block;
  const std::size_t tile_operations = block * columns_per_tile * (x.width + 1);
  const auto kernel = HWY_DYNAMIC_DISPATCH(column_tiles);

  context.threads().parallel_for(blocks * tiles, part_operations / tile_operations,
                                 [&](std::size_t begin, std::size_t end, unsigned) {
                                   while (begin < end) {
                                     const std::size_t first = begin / tiles * block;
                                     const std::size_t last = std::min(x.rows, first + block);
                                     std::size_t tile = begin % tiles;
                                     const std::size_t until = std::min(tiles, tile + (end - begin));
                                     begin += until - tile;
                                     std::size_t before = 0;
                                     for (const auto& map : maps) {
                                       const std::size_t own = tiles_of(map);
                                       if (tile < before + own && tile < until) {
                                         const std::size_t to = std::min(until, before + own);
                                         kernel(x, map, tile - before, to - before, first, last);
                                         tile = to;
                                       }
                                       before += own;
                                     }
                                   }
                                 });
}

}  // namespace troupe::ops
#endif
