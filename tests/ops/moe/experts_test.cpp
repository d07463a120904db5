#include "ops/moe/experts.hpp"

#include <cmath>

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

struct layer {
  std::vector<stored_matrix> gate, up, down;
  std::vector<weight_matrix> gate_views, up_views, down_views;

  layer(std::size_t experts, std::size_t width, std::size_t hidden, DType dtype) {
    for (unsigned e = 0; e < experts; ++e) {
      gate.push_back(random_weights(hidden, width, dtype, 10 * e));
      up.push_back(random_weights(hidden, width, dtype, 10 * e + 1));
      down.push_back(random_weights(width, hidden, dtype, 10 * e + 2));
    }
    for (const auto& one : gate) gate_views.push_back(one.view());
    for (const auto& one : up) up_views.push_back(one.view());
    for (const auto& one : down) down_views.push_back(one.view());
  }
  expert_weights view(activation act) const { return {gate_views, up_views, down_views, act}; }
};

// k distinct experts for each row.
std::vector<std::int32_t> random_choice(std::size_t rows, std::size_t experts, std::size_t k, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> all(experts), chosen;
  for (std::size_t e = 0; e < experts; ++e) all[e] = static_cast<std::int32_t>(e);
  for (std::size_t t = 0; t < rows; ++t) {
    std::shuffle(all.begin(), all.end(), random);
    chosen.insert(chosen.end(), all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k));
  }
  return chosen;
}

double activate(activation act, double g) {
  if (act == activation::relu) return std::max(g, 0.0);
  if (act == activation::gelu) return g / 2 * (1 + std::erf(g / std::sqrt(2.0)));
  if (act == activation::silu) return g / (1 + std::exp(-g));
  return g / 2 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (g + 0.044715 * g * g * g)));
}

class Experts : public OpTest {
 protected:
  matrix run(const matrix& x, const matrix& weights, std::span<const std::int32_t> experts,
             const expert_weights& mlp) {
    matrix y(x.rows, x.width);
    ops().experts(context(), y.view(), x.view(), weights.view(), {experts.data(), x.rows, weights.width},
                  mlp);
    return y;
  }
};
TROUPE_ON_ALL_VERSIONS(Experts);

TEST_P(Experts, EqualTheFormulaInDoublePrecision) {
  struct shape {
    std::size_t rows, width, hidden, experts, k;
  };
  for (const activation act : {activation::silu, activation::gelu, activation::relu, activation::gelu_tanh}) {
    for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
      for (const auto& [rows, width, hidden, experts, k] :
           {shape{1, 16, 8, 2, 1}, shape{5, 33, 19, 4, 3}, shape{30, 40, 65, 8, 2}}) {
        const layer weights(experts, width, hidden, dtype);
        const auto x = random_matrix(rows, width, 1);
        const auto share = random_matrix(rows, k, 2);
        const auto chosen = random_choice(rows, experts, k, 3);
        const auto y = run(x, share, chosen, weights.view(act));
        for (std::size_t t = 0; t < rows; ++t) {
          std::vector<double> expected(width);
          for (std::size_t i = 0; i < k; ++i) {
            const auto e = static_cast<std::size_t>(chosen[t * k + i]);
            for (std::size_t f = 0; f < hidden; ++f) {
              double g = 0, u = 0;
              for (std::size_t n = 0; n < width; ++n) {
                g += weights.gate[e].at(f, n) * x.at(t, n);
                u += weights.up[e].at(f, n) * x.at(t, n);
              }
              const double h = activate(act, g) * u * share.at(t, i);
              for (std::size_t d = 0; d < width; ++d) expected[d] += h * weights.down[e].at(d, f);
            }
          }
          for (std::size_t d = 0; d < width; ++d) {
            ASSERT_NEAR(y.at(t, d), expected[d], 2e-3 + 1e-4 * std::abs(expected[d]));
          }
        }
      }
    }
  }
}

TEST_P(Experts, ARowAloneEqualsTheRowAmongOthersBitForBit) {
  for (const activation act : {activation::silu, activation::gelu, activation::relu, activation::gelu_tanh}) {
    const layer weights(8, 72, 50, DType::bf16);
    const auto x = random_matrix(140, 72, 4);
    const auto share = random_matrix(140, 2, 5);
    const auto chosen = random_choice(140, 8, 2, 6);
    const auto together = run(x, share, chosen, weights.view(act));
    for (std::size_t t = 0; t < x.rows; ++t) {
      const auto alone = run(x.slice(t, t + 1), share.slice(t, t + 1), std::span(chosen).subspan(2 * t, 2),
                             weights.view(act));
      ASSERT_TRUE(same_bits(alone, together.slice(t, t + 1))) << t;
    }
  }
}

TEST_P(Experts, TheOrderInWhichARowNamesItsExpertsChangesNothing) {
  const layer weights(4, 24, 16, DType::bf16);
  const auto x = random_matrix(1, 24, 7);
  matrix forward(1, 3), backward(1, 3);
  forward.values = {0.5f, 0.3f, 0.2f};
  backward.values = {0.2f, 0.3f, 0.5f};
  EXPECT_TRUE(
      same_bits(run(x, forward, std::vector<std::int32_t>{3, 0, 2}, weights.view(activation::silu)),
                run(x, backward, std::vector<std::int32_t>{2, 0, 3}, weights.view(activation::silu))));
}

TEST_P(Experts, AllRowsMayChooseTheSameExpert) {
  const layer weights(8, 24, 16, DType::bf16);
  const auto x = random_matrix(50, 24, 8);
  matrix share(50, 1);
  std::fill(share.values.begin(), share.values.end(), 1.0f);
  const std::vector<std::int32_t> chosen(50, 7);
  const auto y = run(x, share, chosen, weights.view(activation::silu));
  const auto last =
      run(x.slice(49, 50), share.slice(49, 50), std::span(chosen).first(1), weights.view(activation::silu));
  EXPECT_TRUE(same_bits(last, y.slice(49, 50)));
}

TEST_P(Experts, GatesFarFromZeroEqualTheFormula) {
  for (const float gate : {-1000.0f, -355.0f, -200.0f, -178.0f, -100.0f, -88.0f, 100.0f, 1000.0f}) {
    matrix one(1, 1), x(1, 1), share(1, 1);
    one.values = x.values = share.values = {1.0f};
    matrix large(1, 1);
    large.values = {gate};
    layer weights(1, 1, 1, DType::f32);
    const stored_matrix gates(large, DType::f32), units(one, DType::f32);
    weights.gate_views[0] = gates.view();
    weights.up_views[0] = weights.down_views[0] = units.view();
    const std::vector<std::int32_t> chosen{0};
    const float y = run(x, share, chosen, weights.view(activation::silu)).at(0, 0);
    EXPECT_NEAR(y, activate(activation::silu, gate), 1e-5 * std::abs(gate)) << gate;
  }
}

// A weight that is not a number must not reach rows that did not choose its expert.
TEST_P(Experts, ExpertsThatNobodyChoseAreNotComputed) {
  layer weights(3, 16, 16, DType::f32);
  const stored_matrix broken(
      [] {
        matrix nan(16, 16);
        std::fill(nan.values.begin(), nan.values.end(), NAN);
        return nan;
      }(),
      DType::f32);
  weights.gate_views[1] = weights.up_views[1] = weights.down_views[1] = broken.view();
  const auto x = random_matrix(4, 16, 9);
  matrix share(4, 2);
  std::fill(share.values.begin(), share.values.end(), 0.5f);
  const std::vector<std::int32_t> chosen{0, 2, 2, 0, 0, 2, 0, 2};
  for (const float value : run(x, share, chosen, weights.view(activation::silu)).values) {
    EXPECT_TRUE(std::isfinite(value));
  }
}

}  // namespace
}  // namespace troupe::ops
