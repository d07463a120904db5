#include "ops/backends/cpu/cpu_backend.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/ops/support/tiny_model.hpp"

namespace troupe::ops {
namespace {

using ::testing::HasSubstr;
using tiny = test::tiny_program;

constexpr std::uint64_t token_bytes = 2 * tiny::layers * tiny::kv_heads * tiny::head_dim * sizeof(float);

class CpuBackend : public ::testing::TestWithParam<backend_options> {
 protected:
  void SetUp() override { load(tiny::make(), GetParam()); }

  result<std::unique_ptr<model>> try_load(const program::ProgramT& source, const backend_options& options) {
    const tiny_checkpoint files(source);
    const auto program = program::verify(tiny::bytes(source));
    EXPECT_TRUE(program) << (program ? "" : program.error().text);
    model_.reset();
    auto opened = cpu::open(options);
    EXPECT_TRUE(opened);
    backend_ = std::move(*opened);
    return backend_->load(*program, files.open());
  }
  void load(const program::ProgramT& source, const backend_options& options) {
    auto loaded = try_load(source, options);
    ASSERT_TRUE(loaded) << loaded.error().text;
    model_ = std::move(*loaded);
  }

  static std::vector<std::int32_t> random_tokens(std::size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::int32_t> tokens(count);
    for (auto& token : tokens) token = static_cast<std::int32_t>(random() % tiny::vocabulary);
    return tokens;
  }
  // Logits of a sequence that is fed alone and at once.
  std::vector<float> alone(const std::vector<std::int32_t>& tokens) {
    return tiny_sequences(*model_).step({{0, tokens}});
  }
  static std::vector<float> rows(const std::vector<float>& logits, std::size_t first, std::size_t last) {
    return {logits.begin() + first * tiny::vocabulary, logits.begin() + last * tiny::vocabulary};
  }

  std::unique_ptr<backend> backend_;
  std::unique_ptr<model> model_;
};

INSTANTIATE_TEST_SUITE_P(Version, CpuBackend,
                         ::testing::Values(backend_options{1, true, 256, 16 * token_bytes},
                                           backend_options{1, false, 256, 16 * token_bytes},
                                           backend_options{3, false, 256, 16 * token_bytes}),
                         [](const auto& version) {
                           return (version.param.reference_ops ? "ref" : "fast") +
                                  std::to_string(version.param.threads);
                         });

TEST_P(CpuBackend, TellsWhatItIsAndWhatItHolds) {
  EXPECT_EQ(backend_->info().name, "cpu");
  EXPECT_THAT(backend_->info().detail, HasSubstr("thread"));
  EXPECT_EQ(model_->block_tokens(), 16u);
  EXPECT_EQ(model_->weight_bytes(),
            2 * program::count_parameters(*program::GetProgram(tiny::bytes(tiny::make()).data())).total);
}

TEST_P(CpuBackend, AgreesWithTheReferenceOps) {
  const auto tokens = random_tokens(60, 1);
  const auto own = alone(tokens);
  load(tiny::make(), {1, true, 256, 16 * token_bytes});
  const auto reference = alone(tokens);
  for (std::size_t i = 0; i < own.size(); ++i) ASSERT_NEAR(own[i], reference[i], 2e-4) << i;
}

TEST_P(CpuBackend, AnyCutIntoChunksGivesTheSameBits) {
  const auto tokens = random_tokens(50, 2);
  const auto whole = alone(tokens);
  for (const std::size_t chunk : {1u, 3u, 16u, 17u, 49u}) {
    tiny_sequences sequences(*model_);
    for (std::size_t first = 0; first < tokens.size(); first += chunk) {
      const std::size_t last = std::min(tokens.size(), first + chunk);
      ASSERT_EQ(sequences.step({{0, {tokens.begin() + first, tokens.begin() + last}}}),
                rows(whole, first, last));
    }
  }
}

TEST_P(CpuBackend, AnyCompanyGivesTheSameBits) {
  const auto a = random_tokens(40, 3), b = random_tokens(21, 4), c = random_tokens(3, 5);
  const auto alone_a = alone(a), alone_b = alone(b), alone_c = alone(c);
  tiny_sequences sequences(*model_);
  const auto part = [](const std::vector<std::int32_t>& all, std::size_t first, std::size_t last) {
    return std::vector<std::int32_t>(all.begin() + first, all.begin() + last);
  };
  const auto first = sequences.step({{0, part(a, 0, 30)}, {1, part(b, 0, 1)}});
  EXPECT_EQ(rows(first, 0, 30), rows(alone_a, 0, 30));
  EXPECT_EQ(rows(first, 30, 31), rows(alone_b, 0, 1));
  const auto second = sequences.step({{2, c}, {1, part(b, 1, 21)}, {0, part(a, 30, 31)}});
  EXPECT_EQ(rows(second, 0, 3), alone_c);
  EXPECT_EQ(rows(second, 3, 23), rows(alone_b, 1, 21));
  EXPECT_EQ(rows(second, 23, 24), rows(alone_a, 30, 31));
}

TEST_P(CpuBackend, LogitsAreThoseOfTheAskedRows) {
  const auto tokens = random_tokens(10, 6);
  const auto all = alone(tokens);
  std::vector<std::int32_t> positions(10);
  for (int i = 0; i < 10; ++i) positions[i] = i;
  const std::vector<std::uint32_t> starts{0, 10}, asked{3, 9}, table{0};
  const std::vector<std::span<const std::uint32_t>> tables{table};
  ASSERT_TRUE(model_->run({tokens, positions, starts, tables, asked}));
  std::vector<float> logits(2 * tiny::vocabulary);
  model_->read_logits(logits);
  EXPECT_EQ(rows(logits, 0, 1), rows(all, 3, 4));
  EXPECT_EQ(rows(logits, 1, 2), rows(all, 9, 10));
  EXPECT_TRUE(model_->run({tokens, positions, starts, tables, {}}))
      << "a chunk in the middle of a prompt asks for none";
}

TEST_P(CpuBackend, ProbesAreFilledAndChangeNothing) {
  const auto tokens = random_tokens(12, 7);
  const auto plain = alone(tokens);
  std::vector<probe_request> probes{{"hidden", {}}, {"logits", {}}};
  EXPECT_EQ(tiny_sequences(*model_).step({{0, tokens}}, probes), plain);
  EXPECT_EQ(probes[0].values.size(), 12u * tiny::hidden);
  EXPECT_EQ(probes[1].values, plain);
  EXPECT_EQ(alone(tokens), plain);
}

TEST_P(CpuBackend, AnUnknownProbeIsRefused) {
  const std::vector<std::uint32_t> starts{0};
  probe_request probe{"nonsense", {}};
  const auto ran = model_->run({{}, {}, starts, {}, {}}, {&probe, 1});
  ASSERT_FALSE(ran);
  EXPECT_THAT(ran.error().text, HasSubstr("nonsense"));
}

TEST_P(CpuBackend, SamplesAndScoresTheLastLogits) {
  const auto logits = alone(random_tokens(5, 8));
  sampling_params params;
  params.temperature = 0;
  std::vector<sample_request> requests;
  std::vector<score_request> scores;
  for (std::uint32_t row = 0; row < 5; ++row) {
    requests.push_back({row, &params, {}, 0, 0, {}, 1});
    scores.push_back({row, 4, 0});
  }
  std::vector<sampled_token> tokens(5), scored(5);
  model_->sample(requests, tokens);
  model_->score(scores, scored);
  for (std::uint32_t row = 0; row < 5; ++row) {
    const auto begin = logits.begin() + row * tiny::vocabulary;
    const auto best = std::max_element(begin, begin + tiny::vocabulary);
    EXPECT_EQ(tokens[row].token, best - begin);
    EXPECT_EQ(tokens[row].top[0].token, tokens[row].token);
    EXPECT_NEAR(tokens[row].logprob - scored[row].logprob, *best - begin[4], 1e-5);
  }
}

TEST_P(CpuBackend, TwoModelsShareThePoolWithoutTouchingEachOthersBlocks) {
  const auto tokens = random_tokens(20, 9);
  const auto expected = alone(tokens);
  const auto source = tiny::make();
  const tiny_checkpoint files(source);
  auto other = backend_->load(*program::verify(tiny::bytes(source)), files.open());
  ASSERT_TRUE(other);
  // Blocks 0, 1 of one and 2, 3 of the other.
  std::vector<std::int32_t> positions(20);
  for (int i = 0; i < 20; ++i) positions[i] = i;
  const std::vector<std::uint32_t> starts{0, 20}, one{0, 1}, two{3, 2};
  std::vector<std::uint32_t> asked(20);
  for (std::uint32_t i = 0; i < 20; ++i) asked[i] = i;
  const std::vector<std::span<const std::uint32_t>> first{one}, second{two};
  ASSERT_TRUE(model_->run({tokens, positions, starts, first, asked}));
  ASSERT_TRUE((*other)->run({random_tokens(20, 10), positions, starts, second, asked}));
  // Only the last row again: it reads what the first run wrote.
  const std::vector<std::uint32_t> last_start{0, 1}, last_row{0};
  ASSERT_TRUE(
      model_->run({std::span(tokens).last(1), std::span(positions).last(1), last_start, first, last_row}));
  std::vector<float> logits(tiny::vocabulary);
  model_->read_logits(logits);
  EXPECT_EQ(logits, rows(expected, 19, 20));
}

TEST_P(CpuBackend, BatchesThatContradictThemselvesAreRefusedBeforeAnyWrite) {
  const std::vector<std::int32_t> tokens{1, 2}, positions{0, 1};
  const std::vector<std::uint32_t> starts{0, 2}, table{0}, none;
  const std::vector<std::span<const std::uint32_t>> tables{table}, empty{none};
  const std::vector<std::uint32_t> rows{0, 1};
  ASSERT_TRUE(model_->run({tokens, positions, starts, tables, rows}));
  const auto refused = [&](const step_batch& batch, const char* text) {
    const auto ran = model_->run(batch);
    ASSERT_FALSE(ran) << text;
    EXPECT_EQ(ran.error().code, error_code::internal);
    EXPECT_THAT(ran.error().text, HasSubstr(text));
  };
  const std::vector<std::int32_t> strange{1, 32}, negative{-1, 0}, jump{0, 2}, one{0};
  const std::vector<std::uint32_t> short_rows{0, 1}, twice{1, 1}, beyond{2}, far{256};
  const std::vector<std::span<const std::uint32_t>> far_tables{far};
  refused({strange, positions, starts, tables, rows}, "token 32");
  refused({negative, positions, starts, tables, rows}, "token -1");
  refused({tokens, jump, starts, tables, rows}, "ascend by one");
  refused({tokens, one, starts, tables, rows}, "1 positions");
  refused({tokens, positions, short_rows, tables, rows}, "sequence rows");
  refused({tokens, positions, {}, tables, rows}, "sequence rows");
  refused({tokens, positions, starts, {}, rows}, "block tables");
  refused({tokens, positions, starts, empty, rows}, "needs 1");
  refused({tokens, positions, starts, far_tables, rows}, "cache block 256");
  refused({tokens, positions, starts, tables, twice}, "logit rows");
  refused({tokens, positions, starts, tables, beyond}, "logit rows");
}

TEST_P(CpuBackend, ABlockTooSmallForOneTokenIsAConfigurationError) {
  auto options = GetParam();
  options.block_bytes = token_bytes;
  const auto least = try_load(tiny::make(), options);
  ASSERT_TRUE(least);
  EXPECT_EQ((*least)->block_tokens(), 1u);
  options.block_bytes = token_bytes - 1;
  const auto refused = try_load(tiny::make(), options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_config);
  EXPECT_THAT(refused.error().text, HasSubstr(std::to_string(token_bytes)));
}

TEST_P(CpuBackend, BlocksOfAnySizeGiveTheSameBits) {
  const auto tokens = random_tokens(45, 11);
  const auto expected = alone(tokens);
  for (const std::uint64_t block_tokens : {1u, 7u, 33u, 100u}) {
    auto options = GetParam();
    options.block_bytes = block_tokens * token_bytes + 20;
    load(tiny::make(), options);
    EXPECT_EQ(alone(tokens), expected) << block_tokens;
  }
}

TEST_P(CpuBackend, ACacheDtypeOtherThanF32IsUnsupported) {
  auto source = tiny::make();
  source.caches[0]->dtype = program::DType::bf16;
  const auto refused = try_load(source, GetParam());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::unsupported);
  EXPECT_THAT(refused.error().text, HasSubstr("kv"));
}

TEST_P(CpuBackend, AMissingWeightIsNamed) {
  auto smaller = tiny::make();
  smaller.weights.pop_back();
  const tiny_checkpoint files(smaller);
  const auto refused = backend_->load(*program::verify(tiny::bytes(tiny::make())), files.open());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_checkpoint);
  EXPECT_THAT(refused.error().text, HasSubstr("lm_head"));
}

TEST_P(CpuBackend, AStepTooLargeForTheMachineIsRefusedWhenTheModelIsLoaded) {
  const auto source = tiny::make();
  const auto program = program::verify(tiny::bytes(source));
  const tiny_checkpoint files(source);
  load_options options;
  options.step_tokens = 512;
  EXPECT_TRUE(backend_->load(*program, files.open(), options));
  options.step_tokens = std::numeric_limits<std::uint32_t>::max();
  const auto refused = backend_->load(*program, files.open(), options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_config);
  EXPECT_THAT(refused.error().text,
              HasSubstr("scheduler.step_tokens: the activations of a step of 4294967295 tokens"));
}

TEST_P(CpuBackend, LoadingReportsItsProgressUpToTheEnd) {
  const auto source = tiny::make();
  const tiny_checkpoint files(source);
  std::uint64_t last = 0, total = 0;
  load_options options;
  options.progress = [&](std::uint64_t done, std::uint64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
  };
  ASSERT_TRUE(backend_->load(*program::verify(tiny::bytes(source)), files.open(), options));
  EXPECT_GT(total, 0u);
  EXPECT_EQ(last, total);
}

TEST_P(CpuBackend, AnEmptyStepIsFine) {
  const std::vector<std::uint32_t> starts{0};
  EXPECT_TRUE(model_->run({{}, {}, starts, {}, {}}));
  model_->sample({}, {});
  model_->score({}, {});
  model_->read_logits({});
}

TEST(CpuBackendPool, MoreMemoryThanAddressesIsAConfigurationError) {
  const auto refused = cpu::open({1, false, 4000000000u, std::uint64_t{1} << 40});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_config);
}

}  // namespace
}  // namespace troupe::ops
