// Attention over a paged cache on the device against the plain reference: ragged batches, long and short, any block size.
#include <random>

#include "ops/attention/attention_cuda.hpp"
#include "tests/ops/backends/cuda/on_device.hpp"

namespace troupe::ops {
namespace {

struct layout {
  std::size_t heads, kv_heads, head_dim, block_tokens;
  unsigned window = 0;
  float soft_cap = 0;
};

// A step: for each sequence how many positions are there and how many come now.
struct piece {
  std::uint32_t before, now;
};

class CudaAttention : public CudaOps {
 protected:
  // Rows of all pieces, with keys and values of what was before already written; what the device and the reference make of it.
  void compare(const layout& l, const std::vector<piece>& pieces, bool tiles) {
    const device_attention shape{static_cast<unsigned>(l.heads),
                                 static_cast<unsigned>(l.kv_heads),
                                 static_cast<unsigned>(l.head_dim),
                                 0.3f,
                                 l.window,
                                 l.soft_cap};
    const attention_shape plain{l.heads, l.kv_heads, l.head_dim, 0.3f, l.window, l.soft_cap};
    const std::size_t per_block = 2 * l.kv_heads * l.head_dim * l.block_tokens;
    std::vector<std::vector<std::uint32_t>> tables;
    std::uint32_t blocks = 0, longest = 1;
    for (const auto& p : pieces) {
      tables.emplace_back();
      for (std::size_t i = 0; i * l.block_tokens < p.before + p.now; ++i) tables.back().push_back(blocks++);
      longest = std::max(longest, p.before + p.now);
    }
    std::mt19937 random(7);
    std::vector<std::uint32_t> order(blocks);
    for (std::uint32_t i = 0; i < blocks; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (auto& table : tables)
      for (auto& block : table) block = order[block];
    std::vector<float> pool(blocks * per_block + 16);
    const on_device<std::uint16_t> device_pool(blocks * per_block + 16);
    const kv_cache cache{pool.data(), per_block, 0, l.block_tokens, l.kv_heads, l.head_dim};
    const device_kv device_cache{reinterpret_cast<__nv_bfloat16*>(device_pool.data()), per_block, 0,
                                 static_cast<unsigned>(l.block_tokens)};
    for (const bool history : {true, false}) {
      std::vector<std::int32_t> positions;
      std::vector<std::uint32_t> starts{0}, row_sequences;
      for (std::size_t s = 0; s < pieces.size(); ++s) {
        const std::uint32_t first = history ? 0 : pieces[s].before,
                            count = history ? pieces[s].before : pieces[s].now;
        for (std::uint32_t i = 0; i < count; ++i) {
          positions.push_back(static_cast<std::int32_t>(first + i));
          row_sequences.push_back(static_cast<std::uint32_t>(s));
        }
        starts.push_back(static_cast<std::uint32_t>(positions.size()));
      }
      const std::size_t rows = positions.size();
      if (rows == 0) continue;
      const auto q = rounded(random_matrix(rows, l.heads * l.head_dim, 1 + history)),
                 k = rounded(random_matrix(rows, l.kv_heads * l.head_dim, 3 + history)),
                 v = rounded(random_matrix(rows, l.kv_heads * l.head_dim, 5 + history));
      std::vector<std::span<const std::uint32_t>> spans(tables.begin(), tables.end());
      const attention_batch batch{positions, starts, spans};
      matrix expected(rows, l.heads * l.head_dim);

      std::vector<std::uint32_t> flat, table_starts;
      std::vector<decode_part> parts;
      std::vector<query_tile> queries;
      for (const auto& table : tables) {
        table_starts.push_back(static_cast<std::uint32_t>(flat.size()));
        flat.insert(flat.end(), table.begin(), table.end());
      }
      for (std::size_t s = 0; s < pieces.size(); ++s) {
        const std::uint32_t first = starts[s], end = starts[s + 1];
        if (tiles && end - first > 1) {
          for (std::uint32_t t = first; t < end; t += tile_tokens(shape))
            queries.push_back({t, std::min(tile_tokens(shape), end - t)});
          continue;
        }
        for (std::uint32_t t = first; t < end; ++t) {
          const auto seen = static_cast<std::uint32_t>(positions[t]) + 1;
          add_decode_parts(parts, t, l.window != 0 && seen > l.window ? seen - l.window : 0, seen);
        }
      }
      const on_device<std::int32_t> at(positions);
      const on_device<std::uint32_t> of_rows(row_sequences), begins(table_starts), blocks_of(flat),
          count(std::vector<std::uint32_t>{static_cast<std::uint32_t>(parts.size())});
      const on_device<decode_part> part_list(parts);
      const on_device<query_tile> tile_list(queries);
      const on_device<float> partials(std::max<std::size_t>(1, parts.size()) * l.heads * (l.head_dim + 2));
      const device_tables device{at.data(),        of_rows.data(), begins.data(),   blocks_of.data(),
                                 part_list.data(), count.data(),   tile_list.data()};
      const device_matrix_of_floats dq(q), dk(k), dv(v), y(rows, l.heads * l.head_dim);
      write_kv_cuda(nullptr, device_cache, dk.in(), dv.in(), device, shape);
      if (history) {
        write_kv(context(), cache, k.view(), v.view(), batch);
        EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
        continue;
      }
      attend_alone_cuda(nullptr, y.out(), dq.in(), device_cache, device, shape, parts.size(), partials.data(),
                        limits_here());
      attend_tiles_cuda(nullptr, y.out(), dq.in(), device_cache, device, shape, queries.size());
      attention_ref(context(), expected.view(), q.view(), k.view(), v.view(), cache, batch, plain);
      EXPECT_CLOSE(y.read(), expected, queries.empty() ? 2e-5 : 4e-3)
          << l.heads << "/" << l.kv_heads << " heads of " << l.head_dim << ", blocks of " << l.block_tokens
          << ", window " << l.window << ", longest " << longest << (tiles ? ", tiles" : "");
    }
  }
};

TEST_F(CudaAttention, RowsAloneEqualTheReference) {
  const std::vector<piece> pieces{{0, 1}, {1, 1}, {127, 1}, {300, 1}, {5, 3}, {1030, 1}};
  for (const layout& l : {layout{4, 2, 4, 16}, layout{8, 2, 32, 7}, layout{1, 1, 20, 1}, layout{6, 1, 64, 33},
                          layout{8, 8, 128, 16, 100}, layout{12, 2, 96, 16, 0, 5}, layout{16, 1, 256, 32},
                          layout{48, 8, 128, 64}, layout{20, 1, 64, 12}, layout{8, 2, 128, 20, 50, 4}})
    compare(l, pieces, false);
}

TEST_F(CudaAttention, TilesEqualTheReference) {
  const std::vector<piece> pieces{{0, 5}, {0, 64}, {1, 2}, {90, 200}, {600, 1}, {33, 17}};
  for (const layout& l :
       {layout{8, 2, 32, 7}, layout{2, 1, 8, 5}, layout{6, 1, 64, 33}, layout{8, 8, 128, 16, 100},
        layout{12, 2, 96, 16, 0, 5}, layout{16, 1, 256, 32}, layout{48, 8, 128, 64},
        layout{8, 2, 128, 16, 64}, layout{16, 1, 128, 33}, layout{2, 2, 128, 13}})
    compare(l, pieces, true);
}

TEST_F(CudaAttention, ALongContextIsCutAndJoined) {
  compare({8, 2, 64, 16}, {{5000, 1}, {2047, 1}, {17000, 1}}, true);
  compare({4, 1, 128, 64}, {{3000, 300}}, true);
  compare({12, 2, 128, 12}, {{0, 1000}, {777, 130}, {6000, 1}}, true);
}

}  // namespace
}  // namespace troupe::ops
