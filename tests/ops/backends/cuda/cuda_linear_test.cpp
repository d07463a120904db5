// Linear maps on the device, each of the versions, against the plain reference on random shapes.
#include "ops/backends/cuda/gemm.hpp"
#include "ops/linear/linear_cuda.hpp"
#include "tests/ops/backends/cuda/on_device.hpp"

namespace troupe::ops {
namespace {

weight_matrix as_weight(const matrix& m) {
  return {DType::f32, reinterpret_cast<const std::byte*>(m.values.data()), m.rows, m.width};
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

TEST_F(CudaOps, JoinedLinearMapsEqualTheReferenceInAnyCompany) {
  for (const auto& [n, m, other] : {std::tuple{64u, 1u, 5u},
                                    {192u, 300u, 128u},
                                    {4096u, 1000u, 288u},
                                    {8192u, 33u, 7u},
                                    {256u, 2500u, 130u},
                                    {1088u, 2500u, 600u},
                                    {192u, 17000u, 1000u}}) {
    if (!linear_joined_serves(1, n)) GTEST_SKIP() << "no warpgroups here";
    const device_weight first(random_matrix(m, n, 2), true), second(random_matrix(other, n, 3), true);
    const auto bias = random_matrix(1, m, 4);
    const device_matrix_of_floats offset(bias);
    std::vector<matrix> before;
    for (const std::size_t rows : {128u, 1u, 3u, 8u, 9u, 17u, 24u, 33u, 64u, 65u}) {
      const auto x = random_matrix(128, n, 1).slice(0, rows);
      const device_matrix_of_floats dx(x), y(rows, m), z(rows, other);
      const on_device<std::uint16_t> half(rows * n);
      auto* bf16 = reinterpret_cast<__nv_bfloat16*>(half.data());
      to_bf16_cuda(nullptr, bf16, dx.in(), true);
      const device_linear maps[] = {{first.view(), offset.memory.data(), y.out()},
                                    {second.view(), nullptr, z.out()}};
      linear_joined_cuda(nullptr, {bf16, rows, n}, maps, limits_here());
      if (before.empty()) {
        matrix expected(rows, m), more(rows, other);
        const linear_map plain[] = {{first.reference(), as_weight(bias), expected.view()},
                                    {second.reference(), {}, more.view()}};
        const auto seen = rounded(x);
        linear_ref(context(), seen.view(), plain);
        before = {y.read(), z.read()};
        EXPECT_CLOSE(before[0], expected, 2e-5) << n << " " << m;
        EXPECT_CLOSE(before[1], more, 2e-5) << n << " " << other;
      }
      EXPECT_TRUE(same_bits(y.read(), before[0].slice(0, rows))) << rows << " " << n << " " << m;
      EXPECT_TRUE(same_bits(z.read(), before[1].slice(0, rows))) << rows << " " << n << " " << other;
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

TEST_F(CudaOps, ARoutersLogitsAreComputedInFullPrecisionWhateverTheCompany) {
  const auto x = random_matrix(200, 1000, 1);
  const device_weight w(random_matrix(17, 1000, 2), false);
  const device_matrix_of_floats dx(x), y(200, 17), one(1, 17);
  linear_exact_cuda(nullptr, dx.in(), {w.view(), nullptr, y.out()});
  const device_weight odd(random_matrix(9, 333, 3), false), wide(random_matrix(16, 9000, 4), false);
  for (const auto* other : {&odd, &wide}) {
    const std::size_t n = other->exact.width, m = other->exact.rows;
    const auto in = random_matrix(3, n, 5);
    const device_matrix_of_floats din(in), out(3, m);
    linear_exact_cuda(nullptr, din.in(), {other->view(), nullptr, out.out()});
    matrix found(3, m);
    const linear_map alone[] = {{other->reference(), {}, found.view()}};
    linear_ref(context(), in.view(), alone);
    EXPECT_CLOSE(out.read(), found, 2e-6) << n;
  }
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
