// Each CUDA op against the plain reference on random shapes.
#include "ops/activation/activation_cuda.hpp"
#include "ops/elementwise/elementwise_cuda.hpp"
#include "ops/moe/router_cuda.hpp"
#include "ops/norm/norm_cuda.hpp"
#include "ops/rope/rope_cuda.hpp"
#include "ops/rows/rows_cuda.hpp"
#include "tests/ops/backends/cuda/on_device.hpp"

namespace troupe::ops {
namespace {

weight_matrix as_weight(const matrix& m) {
  return {DType::f32, reinterpret_cast<const std::byte*>(m.values.data()), m.rows, m.width};
}

TEST_F(CudaOps, NormsEqualTheReference) {
  for (const std::size_t rows : {1u, 3u, 257u}) {
    for (const std::size_t width : {1u, 7u, 64u, 1000u, 4096u, 5001u}) {
      const auto x = random_matrix(rows, width, 1), w = random_matrix(1, width, 2),
                 bias = random_matrix(1, width, 3);
      const device_matrix_of_floats on(x), factor(w), offset(bias), y(rows, width), z(rows, width);
      matrix expected(rows, width);
      rms_norm_cuda(nullptr, y.out(), on.in(), factor.memory.data(), 1e-5f);
      rms_norm_ref(context(), expected.view(), x.view(), as_weight(w), 1e-5f);
      EXPECT_CLOSE(y.read(), expected, 1e-5) << rows << " x " << width;
      layer_norm_cuda(nullptr, z.out(), on.in(), factor.memory.data(), offset.memory.data(), 1e-5f);
      layer_norm_ref(context(), expected.view(), x.view(), {as_weight(w), as_weight(bias)}, 1e-5f);
      EXPECT_CLOSE(z.read(), expected, 1e-5) << rows << " x " << width;
    }
  }
}

TEST_F(CudaOps, NormsOfASumHaveTheBitsOfTwoLaunches) {
  for (const auto& [rows, width] : {std::pair{1u, 64u}, {3u, 4096u}, {257u, 1000u}, {2u, 8192u}}) {
    ASSERT_TRUE(norm_of_sum_serves(width));
    const device_matrix_of_floats a(random_matrix(rows, width, 1)), b(random_matrix(rows, width, 2)),
        w(random_matrix(1, width, 3)), bias(random_matrix(1, width, 4)), sum(rows, width), both(rows, width),
        y(rows, width), z(rows, width);
    const float *by = w.memory.data(), *plus = bias.memory.data();
    add_cuda(nullptr, sum.out(), a.in(), b.in());
    for (const bool centred : {false, true}) {
      if (centred) {
        layer_norm_cuda(nullptr, y.out(), sum.in(), by, plus, 1e-5f);
        layer_norm_of_sum_cuda(nullptr, z.out(), both.out(), a.in(), b.in(), by, plus, 1e-5f);
      } else {
        rms_norm_cuda(nullptr, y.out(), sum.in(), by, 1e-5f);
        rms_norm_of_sum_cuda(nullptr, z.out(), both.out(), a.in(), b.in(), by, 1e-5f);
      }
      EXPECT_TRUE(same_bits(both.read(), sum.read())) << rows << " x " << width;
      EXPECT_TRUE(same_bits(z.read(), y.read())) << rows << " x " << width;
    }
  }
}

TEST_F(CudaOps, SimpleOpsEqualTheReference) {
  for (const auto& [rows, width] : {std::pair{1u, 1u}, {3u, 77u}, {130u, 4096u}}) {
    const auto a = random_matrix(rows, width, 1), b = random_matrix(rows, width, 2);
    const device_matrix_of_floats da(a), db(b), y(rows, width);
    matrix expected(rows, width);
    add_cuda(nullptr, y.out(), da.in(), db.in());
    add_ref(context(), expected.view(), a.view(), b.view());
    EXPECT_TRUE(same_bits(y.read(), expected));
    mul_cuda(nullptr, y.out(), da.in(), db.in());
    mul_ref(context(), expected.view(), a.view(), b.view());
    EXPECT_TRUE(same_bits(y.read(), expected));
    clamp_cuda(nullptr, y.out(), da.in(), -0.5f, 0.75f);
    clamp_ref(context(), expected.view(), a.view(), {-0.5f, 0.75f});
    EXPECT_TRUE(same_bits(y.read(), expected));
    for (const activation act :
         {activation::silu, activation::gelu, activation::relu, activation::gelu_tanh}) {
      activation_cuda(nullptr, y.out(), da.in(), db.in(), act);
      activation_ref(context(), expected.view(), a.view(), b.view(), act);
      EXPECT_CLOSE(y.read(), expected, 1e-6);
      activation_cuda(nullptr, y.out(), da.in(), {}, act);
      activation_ref(context(), expected.view(), a.view(), {}, act);
      EXPECT_CLOSE(y.read(), expected, 1e-6);
    }
  }
}

TEST_F(CudaOps, RowsAndColumnsMoveUnchanged) {
  const auto table = rounded(random_matrix(50, 33, 1));
  const device_weight stored(table, false);
  const std::vector<std::int32_t> tokens{3, 49, 0, 3, -1};
  const device_matrix_of_floats y(5, 33);
  embed_cuda(nullptr, y.out(), on_device<std::int32_t>(tokens).data(), stored.view());
  const auto rows = y.read();
  for (std::size_t t = 0; t < 5; ++t)
    for (std::size_t n = 0; n < 33; ++n) ASSERT_EQ(rows.at(t, n), tokens[t] < 0 ? 0 : table.at(tokens[t], n));
  const device_matrix_of_floats x(table), picked(3, 33), left(50, 12), right(50, 21), both(50, 33);
  const std::vector<std::uint32_t> wanted{0, 7, 49};
  const on_device<std::uint32_t> list(wanted);
  select_rows_cuda(nullptr, picked.out(), x.in(), list.data());
  const auto found = picked.read();
  for (std::size_t r = 0; r < 3; ++r)
    ASSERT_TRUE(same_bits(found.slice(r, r + 1), table.slice(wanted[r], wanted[r] + 1)));
  const device_floats parts[] = {left.out(), right.out()};
  split_cuda(nullptr, parts, x.in());
  const device_inputs again[] = {left.in(), right.in()};
  concat_cuda(nullptr, both.out(), again);
  EXPECT_TRUE(same_bits(both.read(), table));
}

TEST_F(CudaOps, RopeEqualsTheReference) {
  for (const bool interleaved : {false, true}) {
    for (const auto& [rows, heads, head_dim, rotary] :
         {std::tuple{1u, 1u, 2u, 2u}, {70u, 3u, 10u, 6u}, {300u, 8u, 128u, 128u}}) {
      const auto x = random_matrix(rows, heads * head_dim, 1);
      std::vector<std::int32_t> positions;
      for (unsigned t = 0; t < rows; ++t) positions.push_back(static_cast<std::int32_t>(t * 911));
      std::vector<float> frequencies(rotary / 2);
      rope_frequencies(frequencies, rotary, 10000);
      matrix c(rows, rotary / 2), s(rows, rotary / 2), expected(rows, heads * head_dim);
      rope_angles(context(), c.view(), s.view(), positions, frequencies, 1.25f);
      rope_ref(context(), expected.view(), x.view(), {c.view(), s.view()}, {head_dim, rotary, interleaved});
      const device_matrix_of_floats dx(x), dc(rows, rotary / 2), ds(rows, rotary / 2),
          y(rows, heads * head_dim);
      const on_device<std::int32_t> at(positions);
      const on_device<float> f(frequencies);
      rope_angles_cuda(nullptr, dc.out(), ds.out(), at.data(), f.data(), 1.25f);
      rope_cuda(nullptr, y.out(), dx.in(), dc.in(), ds.in(), head_dim, interleaved);
      EXPECT_CLOSE(y.read(), expected, 1e-6) << rows;
    }
  }
}

TEST_F(CudaOps, RoutersEqualTheReference) {
  for (const auto& [rows, experts, k] :
       {std::tuple{1u, 1u, 1u}, {5u, 8u, 2u}, {300u, 16u, 4u}, {9u, 40u, 40u}, {4096u, 257u, 8u}}) {
    for (const bool sigmoid : {false, true}) {
      auto x = random_matrix(rows, experts, rows + k);
      if (experts > 4) x.at(0, 1) = x.at(0, 3) = 4;  // equal ones
      router_rule rule{k, sigmoid, true, sigmoid ? 2.0f : 1.0f, 1.5f};
      matrix weights(rows, k);
      std::vector<std::int32_t> chosen(rows * k);
      router_ref(context(), weights.view(), {chosen.data(), rows, k}, x.view(), rule);
      const device_matrix_of_floats dx(x), dw(rows, k);
      const on_device<std::int32_t> de(rows * k);
      router_cuda(nullptr, dw.out(), {de.data(), rows, k}, dx.in(), nullptr,
                  {rule.top_k, rule.sigmoid, rule.normalize, rule.norm_power, rule.scale});
      EXPECT_EQ(de.read(), chosen) << rows << " " << experts;
      EXPECT_CLOSE(dw.read(), weights, 1e-5) << rows << " " << experts;
    }
  }
}

}  // namespace
}  // namespace troupe::ops
