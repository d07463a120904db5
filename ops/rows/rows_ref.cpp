#include "ops/rows/rows.hpp"

namespace troupe::ops {

void embed_ref(execution&, activations y, std::span<const std::int32_t> tokens, const weight_matrix& table) {
  check_shape(y, tokens.size(), table.columns);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const std::byte* row = table.row(static_cast<std::size_t>(tokens[t]));
    for (std::size_t n = 0; n < table.columns; ++n) y.row(t)[n] = load_element(table.dtype, row, n);
  }
}

void select_rows_ref(execution&, activations y, const_activations x, std::span<const std::uint32_t> rows) {
  check_shape(y, rows.size(), x.width);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t n = 0; n < x.width; ++n) y.row(r)[n] = x.row(rows[r])[n];
  }
}

void split_ref(execution&, std::span<const activations> y, const_activations x) {
  for (std::size_t t = 0; t < x.rows; ++t) {
    std::size_t column = 0;
    for (const auto& part : y) {
      for (std::size_t m = 0; m < part.width; ++m) part.row(t)[m] = x.row(t)[column++];
    }
  }
}

void concat_ref(execution&, activations y, std::span<const const_activations> x) {
  for (std::size_t t = 0; t < y.rows; ++t) {
    std::size_t column = 0;
    for (const auto& part : x) {
      for (std::size_t m = 0; m < part.width; ++m) y.row(t)[column++] = part.row(t)[m];
    }
  }
}

}  // namespace troupe::ops
