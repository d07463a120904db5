// Bound by memory: the compiler's own vectors do.
#include <cstring>

#include "ops/rows/rows.hpp"

namespace troupe::ops {
namespace {

constexpr std::size_t part_elements = 64 << 10;  // worth a hand-over between threads

void widen_row(float* y, const weight_matrix& table, std::size_t index) {
  const std::byte* row = table.row(index);
  if (table.dtype == DType::f32) {
    std::memcpy(y, row, table.columns * sizeof(float));
  } else if (table.dtype == DType::bf16) {
    for (std::size_t n = 0; n < table.columns; ++n) y[n] = load_element(DType::bf16, row, n);
  } else {
    for (std::size_t n = 0; n < table.columns; ++n) y[n] = load_element(DType::f16, row, n);
  }
}

}  // namespace

void embed_cpu(execution& context, activations y, std::span<const std::int32_t> tokens,
               const weight_matrix& table) {
  check_shape(y, tokens.size(), table.columns);
  context.threads().parallel_for(tokens.size(), part_elements / (y.width + 1) + 1,
                                 [&](std::size_t first, std::size_t last, unsigned) {
                                   for (std::size_t t = first; t < last; ++t) {
                                     widen_row(y.row(t), table, static_cast<std::size_t>(tokens[t]));
                                   }
                                 });
}

void select_rows_cpu(execution& context, activations y, const_activations x,
                     std::span<const std::uint32_t> rows) {
  check_shape(y, rows.size(), x.width);
  context.threads().parallel_for(rows.size(), part_elements / (x.width + 1) + 1,
                                 [&](std::size_t first, std::size_t last, unsigned) {
                                   for (std::size_t r = first; r < last; ++r) {
                                     std::memcpy(y.row(r), x.row(rows[r]), x.width * sizeof(float));
                                   }
                                 });
}

void split_cpu(execution& context, std::span<const activations> y, const_activations x) {
  context.threads().parallel_for(x.rows, part_elements / (x.width + 1) + 1,
                                 [&](std::size_t first, std::size_t last, unsigned) {
                                   for (std::size_t t = first; t < last; ++t) {
                                     const float* from = x.row(t);
                                     for (const auto& part : y) {
                                       std::memcpy(part.row(t), from, part.width * sizeof(float));
                                       from += part.width;
                                     }
                                   }
                                 });
}

void concat_cpu(execution& context, activations y, std::span<const const_activations> x) {
  context.threads().parallel_for(y.rows, part_elements / (y.width + 1) + 1,
                                 [&](std::size_t first, std::size_t last, unsigned) {
                                   for (std::size_t t = first; t < last; ++t) {
                                     float* to = y.row(t);
                                     for (const auto& part : x) {
                                       std::memcpy(to, part.row(t), part.width * sizeof(float));
                                       to += part.width;
                                     }
                                   }
                                 });
}

}  // namespace troupe::ops
