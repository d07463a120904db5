// Every op of the schema in one Program: both versions agree, and the fast one gives the same bits for any cut and company.
#include "tests/support/every_op.hpp"

#include <gmock/gmock.h>

#include "ops/backends/cpu/cpu_backend.hpp"
#include "tests/ops/support/tiny_model.hpp"

namespace troupe::ops {
namespace {

using test::every_op;

class EveryOpOnCpu : public ::testing::Test {
 protected:
  static constexpr std::uint64_t token_bytes = 2 * every_op::kv_heads * every_op::head_dim * sizeof(float);

  void load(bool reference, unsigned threads) {
    const auto source = every_op::make();
    const tiny_checkpoint files(source);
    model_.reset();
    auto opened = cpu::open({threads, reference, 64, 16 * token_bytes});
    ASSERT_TRUE(opened);
    backend_ = std::move(*opened);
    auto loaded = backend_->load(*program::verify(test::tiny_program::bytes(source)), files.open());
    ASSERT_TRUE(loaded) << loaded.error().text;
    model_ = std::move(*loaded);
  }
  static std::vector<std::int32_t> random_tokens(std::size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::int32_t> tokens(count);
    for (auto& token : tokens) token = static_cast<std::int32_t>(random() % every_op::vocabulary);
    return tokens;
  }
  std::vector<float> alone(const std::vector<std::int32_t>& tokens) {
    return tiny_sequences(*model_).step({{0, tokens}});
  }

  std::unique_ptr<backend> backend_;
  std::unique_ptr<model> model_;
};

TEST_F(EveryOpOnCpu, BothVersionsAgree) {
  const auto tokens = random_tokens(60, 1);
  load(true, 1);
  const auto reference = alone(tokens);
  load(false, 2);
  const auto fast = alone(tokens);
  float largest = 0;
  for (std::size_t i = 0; i < fast.size(); ++i) {
    ASSERT_NEAR(fast[i], reference[i], 1e-3) << i;
    largest = std::max(largest, std::abs(fast[i]));
  }
  EXPECT_GT(largest, 1) << "the numbers say something";
}

TEST_F(EveryOpOnCpu, AnyCutAndCompanyGivesTheSameBits) {
  for (const bool reference : {true, false}) {
    load(reference, 2);
    const auto tokens = random_tokens(50, 2), other = random_tokens(50, 3);
    const auto whole = alone(tokens);
    for (const std::size_t chunk : {1u, 7u, 49u}) {
      tiny_sequences sequences(*model_);
      for (std::size_t first = 0; first < tokens.size(); first += chunk) {
        const std::size_t last = std::min(tokens.size(), first + chunk);
        const auto logits = sequences.step({{0, {other.begin() + first, other.begin() + last}},
                                            {1, {tokens.begin() + first, tokens.begin() + last}}});
        const std::size_t rows = last - first;
        ASSERT_EQ(std::vector<float>(logits.begin() + rows * every_op::vocabulary, logits.end()),
                  std::vector<float>(whole.begin() + first * every_op::vocabulary,
                                     whole.begin() + last * every_op::vocabulary));
      }
    }
  }
}

}  // namespace
}  // namespace troupe::ops
