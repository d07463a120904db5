// Whole Programs on the device: against the CPU's plain operations, in any cut and company, step by step and ahead.
#include <gmock/gmock.h>

#include "ops/backends/cpu/cpu_backend.hpp"
#include "ops/backends/cuda/cuda_backend.hpp"
#include "tests/ops/backends/cuda/on_device.hpp"
#include "tests/ops/support/tiny_model.hpp"
#include "tests/support/every_op.hpp"

namespace troupe::ops {
namespace {

using ::testing::HasSubstr;
using tiny = test::tiny_program;

constexpr std::size_t vocabulary = tiny::vocabulary;
constexpr backend_options small{1, false, 256, 8192};

class CudaModel : public ::testing::Test {
 protected:
  void SetUp() override { TROUPE_SKIP_WITHOUT_DEVICE(); }

  void load(const program::ProgramT& source, const load_options& options = {}) {
    files_ = std::make_unique<tiny_checkpoint>(source);
    const auto program = program::verify(tiny::bytes(source));
    ASSERT_TRUE(program) << program.error().text;
    for (const bool reference : {true, false}) {
      auto opened = reference ? cpu::open({1, true, 256, 8192}) : cuda::open(small);
      ASSERT_TRUE(opened) << opened.error().text;
      auto how = options;
      if (reference) how.int8 = false;
      auto loaded = (*opened)->load(*program, files_->open(), how);
      ASSERT_TRUE(loaded) << loaded.error().text;
      (reference ? reference_ : model_) = std::move(*loaded);
      (reference ? reference_backend_ : backend_) = std::move(*opened);
    }
  }
  static std::vector<std::int32_t> random_tokens(std::size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::int32_t> tokens(count);
    for (auto& token : tokens) token = static_cast<std::int32_t>(random() % vocabulary);
    return tokens;
  }
  static matrix logits_of(model& m, const std::vector<feed>& feeds) {
    const auto values = tiny_sequences(m).step(feeds);
    matrix out(values.size() / vocabulary, vocabulary);
    out.values = values;
    return out;
  }

  std::unique_ptr<tiny_checkpoint> files_;
  std::unique_ptr<backend> reference_backend_, backend_;
  std::unique_ptr<model> reference_, model_;
};

TEST_F(CudaModel, AgreesWithThePlainOperations) {
  for (const auto& source : {tiny::make(), test::every_op::make()}) {
    load(source);
    const auto tokens = random_tokens(60, 1);
    const auto own = logits_of(*model_, {{0, tokens}}), plain = logits_of(*reference_, {{0, tokens}});
    EXPECT_CLOSE(own, plain, 2e-2);
    tiny_sequences step_by_step(*model_), plain_steps(*reference_);
    for (std::size_t i = 0; i < 40; ++i) {
      matrix a(1, vocabulary), b(1, vocabulary);
      a.values = step_by_step.step({{0, {tokens[i]}}});
      b.values = plain_steps.step({{0, {tokens[i]}}});
      EXPECT_CLOSE(a, b, 3e-2) << i;
    }
  }
}

TEST_F(CudaModel, MakesUpTheWeightsThatTheHostMakesUp) {
  for (const auto& source : {tiny::make(), test::every_op::make()}) {
    const auto program = program::verify(tiny::bytes(source));
    ASSERT_TRUE(program) << program.error().text;
    reference_backend_ = *cpu::open({1, true, 256, 8192});
    backend_ = *cuda::open(small);
    auto made = reference_backend_->load(*program, checkpoint::weights::synthetic(3));
    ASSERT_TRUE(made) << made.error().text;
    reference_ = std::move(*made);
    made = backend_->load(*program, checkpoint::weights::synthetic(3));
    ASSERT_TRUE(made) << made.error().text;
    model_ = std::move(*made);
    const auto tokens = random_tokens(30, 4);
    EXPECT_CLOSE(logits_of(*model_, {{0, tokens}}), logits_of(*reference_, {{0, tokens}}), 2e-2);
    model_.reset();
    reference_.reset();
  }
}

TEST_F(CudaModel, Int8IsNearThePlainOperations) {
  auto source = tiny::make();
  for (auto& weight : source.weights) weight->quantizable = weight->shape.size() == 3;
  load_options options;
  options.int8 = true;
  load(source, options);
  const auto tokens = random_tokens(50, 2);
  EXPECT_CLOSE(logits_of(*model_, {{0, tokens}}), logits_of(*reference_, {{0, tokens}}), 0.15);
}

TEST_F(CudaModel, CutsAndCompanyChangeLittleMoreThanTheOrderOfSums) {
  load(tiny::make());
  const auto tokens = random_tokens(50, 3), other = random_tokens(50, 4);
  const auto whole = logits_of(*model_, {{0, tokens}});
  for (const std::size_t chunk : {1u, 7u, 49u}) {
    tiny_sequences sequences(*model_);
    for (std::size_t first = 0; first < tokens.size(); first += chunk) {
      const std::size_t last = std::min(tokens.size(), first + chunk);
      matrix found(2 * (last - first), vocabulary);
      found.values = sequences.step({{0, {other.begin() + first, other.begin() + last}},
                                     {1, {tokens.begin() + first, tokens.begin() + last}}});
      EXPECT_CLOSE(found.slice(last - first, found.rows), whole.slice(first, last), 2e-2)
          << chunk << " " << first;
    }
  }
}

// The same decode three ways: run and sample, enqueue one by one, enqueue one ahead of the tokens.
TEST_F(CudaModel, StepsAheadGiveTheTokensOfStepsOneByOne) {
  load(tiny::make());
  constexpr std::size_t sequences = 5, steps = 20;
  sampling_params params;
  params.temperature = 0.8f;
  params.seed = 5;
  params.presence_penalty = 0.5f;
  const auto decode = [&](bool ahead) {
    std::vector<std::vector<std::int32_t>> histories;
    std::vector<std::vector<std::uint32_t>> blocks;
    std::vector<std::uint32_t> rows{0}, wanted;
    for (std::uint32_t s = 0; s < sequences; ++s) {
      histories.push_back({static_cast<std::int32_t>(s) + 1});
      blocks.push_back({s});
      rows.push_back(s + 1);
      wanted.push_back(s);
    }
    std::vector<std::span<const std::uint32_t>> tables(blocks.begin(), blocks.end());
    std::vector<std::vector<std::int32_t>> out(sequences);
    std::size_t uncollected = 0;
    const auto collect = [&] {
      std::vector<sampled_token> tokens(sequences);
      const auto done = model_->collect(tokens, {});
      ASSERT_TRUE(done) << done.error().text;
      for (std::size_t s = 0; s < sequences; ++s) {
        histories[s].push_back(tokens[s].token);
        out[s].push_back(tokens[s].token);
      }
      --uncollected;
    };
    for (std::size_t step = 0; step < steps; ++step) {
      std::vector<std::int32_t> tokens, positions, sources;
      std::vector<sample_request> requests;
      for (std::uint32_t s = 0; s < sequences; ++s) {
        const bool pending = uncollected > 0;
        tokens.push_back(pending ? -1 : histories[s].back());
        sources.push_back(pending ? static_cast<std::int32_t>(s) : -1);
        positions.push_back(static_cast<std::int32_t>(step));
        requests.push_back(
            {s, &params, histories[s], 1, step, {}, -1, pending ? static_cast<std::int32_t>(s) : -1});
      }
      step_batch batch{tokens, positions, rows, tables, wanted, {}, sources};
      const auto done = model_->enqueue(batch, requests, {});
      EXPECT_TRUE(done) << (done ? "" : done.error().text);
      ++uncollected;
      if (!ahead || uncollected == 2) collect();
    }
    while (uncollected > 0) collect();
    return out;
  };
  const auto one_by_one = decode(false);
  EXPECT_EQ(decode(true), one_by_one);
  EXPECT_EQ(decode(false), one_by_one) << "graphs";
}

TEST_F(CudaModel, ScoresAndAlternativesComeFromTheDevice) {
  load(tiny::make());
  const auto logits = logits_of(*model_, {{0, random_tokens(5, 8)}});
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
    const auto begin = logits.values.begin() + row * vocabulary;
    const auto best = std::max_element(begin, begin + vocabulary);
    EXPECT_EQ(tokens[row].token, best - begin);
    EXPECT_EQ(tokens[row].top[0].token, tokens[row].token);
    EXPECT_NEAR(tokens[row].logprob - scored[row].logprob, *best - begin[4], 1e-4);
  }
}

TEST_F(CudaModel, BatchesThatContradictThemselvesAreRefused) {
  load(tiny::make());
  const std::vector<std::int32_t> tokens{1, 99}, positions{0, 1};
  const std::vector<std::uint32_t> starts{0, 2}, table{0}, rows{0, 1};
  const std::vector<std::span<const std::uint32_t>> tables{table};
  const auto refused = model_->run({tokens, positions, starts, tables, rows});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("token 99"));
  EXPECT_FALSE(logits_of(*model_, {{0, {1, 2}}}).values.empty());
}

TEST_F(CudaModel, TellsItsMemoryPlanAndRefusesWhatDoesNotFit) {
  const auto source = tiny::make();
  const tiny_checkpoint files(source);
  auto opened = cuda::open(small);
  ASSERT_TRUE(opened) << opened.error().text;
  EXPECT_THAT((*opened)->info().detail, HasSubstr("compute capability"));
  std::string told;
  load_options options;
  options.tell = [&](std::string_view line) { told += line; };
  ASSERT_TRUE((*opened)->load(*program::verify(tiny::bytes(source)), files.open(), options));
  EXPECT_THAT(told, HasSubstr("weights"));
  options.step_tokens = 1u << 30;
  const auto refused = (*opened)->load(*program::verify(tiny::bytes(source)), files.open(), options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("more than the device has"));
}

TEST(CudaBackend, SaysWhatIsMissingWhereThereIsNoDevice) {
  if (no_device().empty()) GTEST_SKIP() << "there is one";
  const auto refused = cuda::open(small);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("no CUDA device"));
}

}  // namespace
}  // namespace troupe::ops
