#include "ops/rows/rows.hpp"

namespace troupe::ops {

void embed_ref(execution&, activations y, std::span<const std::int32_t> tokens, const weight_matrix& table) {
  check_shape(y, tokens.size(), table.columns);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const std::byte* row = table.row(static_cast<std::size_t>(tokens[t]));
    for (std::size_t n = 0; n < table.columns; ++n) y.row(t)[n] = load_element(table.dtype, row, n);
  }
}

void add_ref(execution&, activations y, const_activations a, const_activations b) {
  check_shape(a, y.rows, y.width);
  check_shape(b, y.rows, y.width);
  for (std::size_t i = 0; i < y.rows * y.width; ++i) y.data[i] = a.data[i] + b.data[i];
}

void select_rows_ref(execution&, activations y, const_activations x, std::span<const std::uint32_t> rows) {
  check_shape(y, rows.size(), x.width);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t n = 0; n < x.width; ++n) y.row(r)[n] = x.row(rows[r])[n];
  }
}

}  // namespace troupe::ops
