#include "ops/backends/null/null_backend.hpp"

#include <gtest/gtest.h>

#include "tests/support/tiny_program.hpp"

namespace troupe::ops {
namespace {

class NullBackend : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto program = program::verify(test::tiny_program::bytes(test::tiny_program::make()));
    ASSERT_TRUE(program) << program.error().text;
    auto loaded = backend_->load(*program, nullptr);
    ASSERT_TRUE(loaded);
    model_ = std::move(*loaded);
  }

  sampled_token sample(const std::vector<std::int32_t>& history, const std::vector<std::int32_t>& banned = {},
                       std::int32_t top = -1) {
    const sampling_params params;
    const sample_request request{0, &params, history, 0, 0, banned, top};
    sampled_token output;
    model_->sample({&request, 1}, {&output, 1});
    return output;
  }

  std::unique_ptr<backend> backend_ = open_null_backend({24});
  std::unique_ptr<model> model_;
};

TEST_F(NullBackend, SaysWhatItIs) {
  EXPECT_EQ(backend_->info().name, "null");
  EXPECT_EQ(model_->block_tokens(), 24u);
  EXPECT_EQ(model_->weight_bytes(), 0u);
}

TEST_F(NullBackend, CountsRoundTheVocabulary) {
  EXPECT_TRUE(model_->run({}));
  EXPECT_EQ(sample({}).token, 0);
  EXPECT_EQ(sample({5}).token, 6);
  EXPECT_EQ(sample({3, test::tiny_program::vocabulary - 1}).token, 0);
}

TEST_F(NullBackend, PassesOverBannedIds) {
  EXPECT_EQ(sample({5}, {6, 7}).token, 8);
}

TEST_F(NullBackend, GivesAsManyAlternativesAsAskedFor) {
  EXPECT_TRUE(sample({1}).top.empty());
  EXPECT_EQ(sample({1}, {}, 3).top.size(), 3u);
}

TEST_F(NullBackend, RefusesProbes) {
  probe_request probe{"hidden", {}};
  const auto ran = model_->run({}, {&probe, 1});
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().code, error_code::unsupported);
}

}  // namespace
}  // namespace troupe::ops
