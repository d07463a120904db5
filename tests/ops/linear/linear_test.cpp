#include "ops/linear/linear.hpp"

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

class Linear : public OpTest {
 protected:
  matrix run(const matrix& x, const stored_matrix& w, const stored_matrix* bias = nullptr) {
    matrix y(x.rows, w.rows);
    const linear_map map{w.view(), bias != nullptr ? bias->view() : weight_matrix{}, y.view()};
    ops().linear(context(), x.view(), {&map, 1});
    return y;
  }
};
TROUPE_ON_ALL_VERSIONS(Linear);

struct shape {
  std::size_t rows, inputs, outputs;
};
const shape shapes[] = {{1, 1, 1},  {1, 256, 64},  {2, 17, 5},  {5, 33, 7},
                        {7, 15, 4}, {13, 100, 31}, {64, 48, 3}, {129, 96, 66}};

TEST_P(Linear, EqualsTheSumInDoublePrecision) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const auto& [rows, inputs, outputs] : shapes) {
      const auto x = random_matrix(rows, inputs, 1);
      const auto w = random_weights(outputs, inputs, dtype, 2);
      const auto bias = random_weights(1, outputs, dtype, 3);
      const auto y = run(x, w, &bias);
      for (std::size_t t = 0; t < rows; ++t) {
        for (std::size_t m = 0; m < outputs; ++m) {
          double sum = bias.at(0, m);
          for (std::size_t n = 0; n < inputs; ++n) sum += x.at(t, n) * w.at(m, n);
          ASSERT_NEAR(y.at(t, m), sum, 1e-5 * std::sqrt(inputs) + 1e-5)
              << rows << " " << inputs << " " << outputs;
        }
      }
    }
  }
}

TEST_P(Linear, ARowAloneEqualsTheRowAmongOthersBitForBit) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const auto& [rows, inputs, outputs] : shapes) {
      const auto x = random_matrix(rows, inputs, 4);
      const auto w = random_weights(outputs, inputs, dtype, 5);
      const auto together = run(x, w);
      for (std::size_t t = 0; t < rows; ++t) {
        ASSERT_TRUE(same_bits(run(x.slice(t, t + 1), w), together.slice(t, t + 1)));
      }
    }
  }
}

TEST_P(Linear, RowsCutIntoChunksEqualTheWholeBitForBit) {
  const auto x = random_matrix(131, 200, 6);
  const auto w = random_weights(77, 200, DType::bf16, 7);
  const auto whole = run(x, w);
  for (const std::size_t chunk : {2u, 3u, 5u, 8u, 16u, 50u, 64u}) {
    for (std::size_t first = 0; first < x.rows; first += chunk) {
      const std::size_t last = std::min(x.rows, first + chunk);
      ASSERT_TRUE(same_bits(run(x.slice(first, last), w), whole.slice(first, last))) << chunk;
    }
  }
}

TEST_P(Linear, MapsInOneCallEqualMapsAloneBitForBit) {
  const auto x = random_matrix(9, 64, 8);
  const auto q = random_weights(33, 64, DType::bf16, 9);
  const auto k = random_weights(6, 64, DType::f32, 10);
  const auto v = random_weights(1, 64, DType::f16, 11);
  matrix yq(9, 33), yk(9, 6), yv(9, 1);
  const linear_map maps[] = {{q.view(), {}, yq.view()}, {k.view(), {}, yk.view()}, {v.view(), {}, yv.view()}};
  ops().linear(context(), x.view(), std::span<const linear_map>(maps));
  EXPECT_TRUE(same_bits(yq, run(x, q)));
  EXPECT_TRUE(same_bits(yk, run(x, k)));
  EXPECT_TRUE(same_bits(yv, run(x, v)));
}

TEST(LinearThreads, ResultsDoNotDependOnTheirNumber) {
  const auto x = random_matrix(70, 130, 12);
  const auto w = random_weights(301, 130, DType::bf16, 13);
  std::vector<matrix> results;
  for (unsigned count = 1; count <= 5; ++count) {
    thread_pool threads(count);
    execution context(threads);
    matrix& y = results.emplace_back(70, 301);
    const linear_map map{w.view(), {}, y.view()};
    linear_cpu(context, x.view(), {&map, 1});
    EXPECT_TRUE(same_bits(results.front(), y)) << count;
  }
}

}  // namespace
}  // namespace troupe::ops
