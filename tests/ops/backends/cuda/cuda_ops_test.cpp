// Each CUDA op against the plain reference on random shapes.
#include "ops/activation/activation_cuda.hpp"
#include "ops/backends/cuda/gemm.hpp"
#include "ops/elementwise/elementwise_cuda.hpp"
#include "ops/linear/linear_cuda.hpp"
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

TEST_F(CudaOps, LinearOfFewRowsEqualsTheReference) {
  for (const bool int8 : {false, true}) {
    for (const std::size_t rows : {1u, 2u, 3u, 4u}) {
      for (const auto& [n, m] :
           {std::pair{8u, 1u}, {33u, 7u}, {256u, 300u}, {4096u, 100u}, {5000u, 17u}, {17408u, 9u}}) {
        const auto x = random_matrix(rows, n, 1);
        const device_weight first(random_matrix(m, n, 2), int8), second(random_matrix(5, n, 3), int8);
        const auto bias = random_matrix(1, m, 4);
        const device_matrix_of_floats dx(x), offset(bias), y(rows, m), z(rows, 5);
        const device_linear maps[] = {{first.view(), offset.memory.data(), y.out()},
                                      {second.view(), nullptr, z.out()}};
        linear_few_cuda(nullptr, dx.in(), maps, limits_here());
        matrix expected(rows, m), other(rows, 5);
        const linear_map plain[] = {{first.reference(), as_weight(bias), expected.view()},
                                    {second.reference(), {}, other.view()}};
        const auto seen = rounded(x);
        linear_ref(context(), seen.view(), plain);
        EXPECT_CLOSE(y.read(), expected, 2e-5) << rows << " " << n << " " << m << " " << int8;
        EXPECT_CLOSE(z.read(), other, 2e-5) << rows << " " << n << " " << m << " " << int8;
      }
    }
  }
}

TEST_F(CudaOps, ARowOfFewEqualsTheRowAloneBitForBit) {
  const auto x = random_matrix(4, 4104, 1);
  const device_weight w(random_matrix(77, 4104, 2), false);
  const device_matrix_of_floats dx(x), y(4, 77), one(1, 77);
  const device_linear all[] = {{w.view(), nullptr, y.out()}}, alone[] = {{w.view(), nullptr, one.out()}};
  linear_few_cuda(nullptr, dx.in(), all, limits_here());
  const auto together = y.read();
  for (std::size_t t = 0; t < 4; ++t) {
    linear_few_cuda(nullptr, {dx.in().data + t * 4104, 1, 4104}, alone, limits_here());
    EXPECT_TRUE(same_bits(one.read(), together.slice(t, t + 1))) << t;
  }
}

TEST_F(CudaOps, LinearTilesEqualTheReference) {
  for (const bool int8 : {false, true}) {
    for (const auto& [rows, n, m] : {std::tuple{1u, 16u, 1u},
                                     {9u, 80u, 100u},
                                     {17u, 512u, 257u},
                                     {64u, 128u, 128u},
                                     {129u, 1040u, 130u},
                                     {9u, 192u, 300u},
                                     {30u, 448u, 100u},
                                     {200u, 192u, 320u},
                                     {777u, 64u, 64u},
                                     {100u, 64u, 130u},
                                     {130u, 1088u, 130u},
                                     {1000u, 96u, 64u},
                                     {4096u, 64u, 40u}}) {
      const auto x = random_matrix(rows, n, 1);
      const device_weight w(random_matrix(m, n, 2), int8);
      if (!linear_tiles_fit(w.view())) continue;
      const auto bias = random_matrix(1, m, 4);
      const device_matrix_of_floats dx(x), offset(bias), y(rows, m);
      const on_device<std::uint16_t> half(std::size_t{rows} * n);
      auto* bf16 = reinterpret_cast<__nv_bfloat16*>(half.data());
      to_bf16_cuda(nullptr, bf16, dx.in(), int8);
      linear_tiles_cuda(nullptr, {bf16, rows, n}, {w.view(), offset.memory.data(), y.out()}, limits_here());
      matrix expected(rows, m);
      const linear_map plain[] = {{w.reference(), as_weight(bias), expected.view()}};
      const auto seen = rounded(x);
      linear_ref(context(), seen.view(), plain);
      EXPECT_CLOSE(y.read(), expected, 2e-5) << rows << " " << n << " " << m << " " << int8;
    }
  }
}

TEST_F(CudaOps, TheLibrarysProductsEqualTheReference) {
  auto opened = cuda::gemm::open();
  ASSERT_TRUE(opened) << opened.error().text;
  for (const auto& [rows, n, m] : {std::tuple{9u, 256u, 256u}, {64u, 1024u, 512u}, {513u, 264u, 300u}}) {
    const auto x = random_matrix(rows, n, 1);
    const device_weight w(random_matrix(m, n, 2), false);
    const device_matrix_of_floats y(rows, m);
    const on_device<std::uint16_t> half(bf16_of(x));
    const auto done = (*opened)->multiply(
        nullptr, y.out(), {reinterpret_cast<const __nv_bfloat16*>(half.data()), rows, n}, w.view());
    ASSERT_TRUE(done) << done.error().text;
    matrix expected(rows, m);
    const linear_map plain[] = {{w.reference(), {}, expected.view()}};
    const auto seen = rounded(x);
    linear_ref(context(), seen.view(), plain);
    EXPECT_CLOSE(y.read(), expected, 2e-5) << rows;
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

TEST_F(CudaOps, ARoutersLogitsAreComputedInFullPrecisionWhateverTheCompany) {
  const auto x = random_matrix(200, 1000, 1);
  const device_weight w(random_matrix(17, 1000, 2), false);
  const device_matrix_of_floats dx(x), y(200, 17), one(1, 17);
  linear_exact_cuda(nullptr, dx.in(), {w.view(), nullptr, y.out()});
  matrix expected(200, 17);
  const linear_map plain[] = {{w.reference(), {}, expected.view()}};
  linear_ref(context(), x.view(), plain);
  const auto all = y.read();
  EXPECT_CLOSE(all, expected, 2e-6);
  for (const std::size_t t : {0u, 77u, 199u}) {
    linear_exact_cuda(nullptr, {dx.in().data + t * 1000, 1, 1000}, {w.view(), nullptr, one.out()});
    EXPECT_TRUE(same_bits(one.read(), all.slice(t, t + 1)));
  }
}

}  // namespace
}  // namespace troupe::ops
