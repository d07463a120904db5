// The demo checkpoints on the CPU backend against the float32 outputs of Hugging Face transformers.
// Tolerance: 5e-4 on logits and log-probabilities; greedy tokens are equal up to the first near-tie (margin
// below 2e-3), if there is one. README.md says where the goldens come from.
#include "ops/backends/cpu/cpu_backend.hpp"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <fstream>
#include <sstream>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/modules/modules.hpp"
#include "kernel/program/native_ops.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::ops {
namespace {

constexpr double tolerance = 5e-4;
constexpr double near_tie = 2e-3;
const std::filesystem::path source = TROUPE_SOURCE_DIR;

std::string read(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

struct golden {
  std::string id;
  std::vector<std::int32_t> ids, greedy_ids, top_ids;
  std::vector<double> greedy_margin, prompt_logprobs, top_logits;
};

golden load_golden(const std::string& model, const std::string& id) {
  const auto all = boost::json::parse(read(source / "tests/golden" / model / "prompts.json"));
  for (const auto& prompt : all.at("prompts").as_array()) {
    if (prompt.at("id").as_string() != id) continue;
    const auto& f = prompt.at("fp32");
    const auto doubles = [&](const char* key) {
      return boost::json::value_to<std::vector<double>>(f.at(key));
    };
    const auto ints = [](const boost::json::value& v) {
      return boost::json::value_to<std::vector<std::int32_t>>(v);
    };
    return {id,
            ints(prompt.at("ids")),
            ints(f.at("greedy_ids")),
            ints(f.at("last_top20_ids")),
            doubles("greedy_margin"),
            doubles("prompt_logprobs"),
            doubles("last_top20_logits")};
  }
  ADD_FAILURE() << "no golden prompt " << id;
  return {};
}

// How a prompt is fed: chunks of `chunk` tokens, all at once if 0.
struct golden_case {
  const char* model;
  const char* id;
  std::size_t chunk;
  bool reference_ops;
};

class GoldenCpu : public ::testing::TestWithParam<golden_case> {
 protected:
  static constexpr std::uint32_t block_count = 256;

  void SetUp() override {
    const std::string architecture = GetParam().model;
    const auto folder = source / "demo" / (architecture + "-demo");
    const auto config = checkpoint::read_config(folder);
    ASSERT_TRUE(config) << config.error().text;
    const auto store = modules::store::open(staged_.path());
    ASSERT_TRUE(store) << store.error().text;
    const auto module =
        store->load(std::filesystem::path(TROUPE_BINARY_DIR) / "lib/troupe/modules" / (architecture + ".so"));
    ASSERT_TRUE(module) << module.error().text;
    const auto program = (*module)->build(config->config_json);
    ASSERT_TRUE(program) << program.error().text;
    const auto files = checkpoint::weights::open(folder);
    ASSERT_TRUE(files) << files.error().text;

    const std::uint64_t token_bytes = program::kv_bytes_per_token(**program, sizeof(float));
    auto opened = cpu::open({2, GetParam().reference_ops, block_count, 16 * token_bytes});
    ASSERT_TRUE(opened) << opened.error().text;
    backend_ = std::move(*opened);
    auto native = (*module)->native_ops();
    ASSERT_TRUE(native) << native.error().text;
    load_options how;
    how.native_ops = std::move(*native);
    how.state_slots = 1;
    auto loaded = backend_->load(*program, *files, how);
    ASSERT_TRUE(loaded) << loaded.error().text;
    model_ = std::move(*loaded);
    vocabulary_ = (*program)->facts()->vocabulary();
    for (std::uint32_t i = 0; i < block_count; ++i) blocks_.push_back(block_count - 1 - i);
  }

  // Feeds tokens at the sequence's end, asking logits of every row.
  void feed(std::span<const std::int32_t> tokens) {
    std::vector<std::int32_t> positions;
    std::vector<std::uint32_t> rows;
    for (std::uint32_t i = 0; i < tokens.size(); ++i) {
      positions.push_back(length_++);
      rows.push_back(i);
    }
    const std::uint32_t starts[] = {0, static_cast<std::uint32_t>(tokens.size())};
    const std::span<const std::uint32_t> table(blocks_);
    const std::uint32_t slot[] = {0};
    const auto ran = model_->run({tokens, positions, starts, {&table, 1}, rows, slot});
    ASSERT_TRUE(ran) << ran.error().text;
  }

  std::int32_t greedy_token(std::size_t row) {
    sampling_params params;
    params.temperature = 0;
    sample_request request;
    request.logit_row = static_cast<std::uint32_t>(row);
    request.params = &params;
    sampled_token output;
    model_->sample({&request, 1}, {&output, 1});
    return output.token;
  }

  double logprob(std::size_t row, std::int32_t token) {
    const score_request request{static_cast<std::uint32_t>(row), token, 0};
    sampled_token output;
    model_->score({&request, 1}, {&output, 1});
    return output.logprob;
  }

  test::temp_folder staged_;
  std::unique_ptr<backend> backend_;
  std::unique_ptr<model> model_;
  std::vector<std::uint32_t> blocks_;
  std::size_t vocabulary_ = 0;
  std::int32_t length_ = 0;
};

std::string case_name(const ::testing::TestParamInfo<golden_case>& c) {
  return std::string(c.param.id) + (c.param.reference_ops ? "_ref" : "_fast") +
         (c.param.chunk == 0 ? "_whole" : "_by_" + std::to_string(c.param.chunk));
}

INSTANTIATE_TEST_SUITE_P(Mixtral, GoldenCpu,
                         ::testing::Values(golden_case{"mixtral", "chat_capital", 0, true},
                                           golden_case{"mixtral", "chat_capital", 0, false},
                                           golden_case{"mixtral", "chat_capital", 1, false},
                                           golden_case{"mixtral", "chat_capital", 7, false},
                                           golden_case{"mixtral", "text_unicode", 13, false},
                                           golden_case{"mixtral", "text_empty", 0, false},
                                           golden_case{"mixtral", "text_long1000", 100, false},
                                           golden_case{"mixtral", "recall_3000", 512, false}),
                         case_name);

INSTANTIATE_TEST_SUITE_P(Dbrx, GoldenCpu,
                         ::testing::Values(golden_case{"dbrx", "chat_capital", 0, true},
                                           golden_case{"dbrx", "chat_capital", 1, false},
                                           golden_case{"dbrx", "text_unicode", 13, false},
                                           golden_case{"dbrx", "text_long1000", 100, false}),
                         case_name);

INSTANTIATE_TEST_SUITE_P(Jamba, GoldenCpu,
                         ::testing::Values(golden_case{"jamba", "chat_capital", 0, true},
                                           golden_case{"jamba", "chat_capital", 1, false},
                                           golden_case{"jamba", "text_unicode", 13, false},
                                           golden_case{"jamba", "text_long1000", 100, false}),
                         case_name);

TEST_P(GoldenCpu, LogitsLogprobsAndGreedyTokensAreTheReferences) {
  const auto expected = load_golden(GetParam().model, GetParam().id);
  const std::size_t count = expected.ids.size();
  const std::size_t chunk = GetParam().chunk == 0 ? count : GetParam().chunk;
  double worst_logprob = 0;
  std::size_t last_row = 0;
  for (std::size_t first = 0; first < count; first += chunk) {
    const auto part = std::span(expected.ids).subspan(first, std::min(chunk, count - first));
    feed(part);
    for (std::size_t i = 0; i < part.size() && first + i < expected.prompt_logprobs.size(); ++i) {
      const double own = logprob(i, expected.ids[first + i + 1]);
      worst_logprob = std::max(worst_logprob, std::abs(own - expected.prompt_logprobs[first + i]));
    }
    last_row = part.size() - 1;
  }
  EXPECT_LT(worst_logprob, tolerance);

  std::vector<float> logits((last_row + 1) * vocabulary_);
  model_->read_logits(logits);
  double worst_logit = 0;
  for (std::size_t i = 0; i < expected.top_ids.size(); ++i) {
    const float own = logits[last_row * vocabulary_ + static_cast<std::size_t>(expected.top_ids[i])];
    worst_logit = std::max(worst_logit, std::abs(own - expected.top_logits[i]));
  }
  EXPECT_LT(worst_logit, tolerance);

  std::size_t equal = 0;
  for (std::int32_t token = greedy_token(last_row); equal < expected.greedy_ids.size(); ++equal) {
    if (expected.greedy_margin[equal] < near_tie) break;
    ASSERT_EQ(token, expected.greedy_ids[equal]) << "at step " << equal;
    feed({&token, 1});
    token = greedy_token(0);
  }
  RecordProperty("worst_logit", std::to_string(worst_logit));
  std::printf("%s: logits within %.1e, prompt logprobs within %.1e, %zu greedy tokens equal\n", GetParam().id,
              worst_logit, worst_logprob, equal);
}

}  // namespace
}  // namespace troupe::ops
