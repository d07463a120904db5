// Whole servers on a CUDA device, from socket to socket: the reference outputs of every demo checkpoint, alone and in company, whole and in
// pieces. Skipped where there is no device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <iostream>
#include <vector>

#include "cli/check/goldens.hpp"
#include "tests/support/cuda_device.hpp"
#include "tests/support/demo_server.hpp"

namespace troupe::test {
namespace {

using tokens = std::vector<std::int32_t>;
constexpr std::size_t path_tokens = 16;

class CudaServe : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!no_cuda_device().empty()) GTEST_SKIP() << no_cuda_device();
    const std::string folder = TROUPE_SOURCE_DIR "/tests/golden/" + std::string(GetParam());
    auto read = check::read_prompts(folder);
    ASSERT_TRUE(read) << read.error().text;
    prompts_ = std::move(*read);
  }
  std::unique_ptr<demo_server> serve(std::uint32_t step_tokens = 512) const {
    return std::make_unique<demo_server>([&](server_options& o) {
      o.config.models = {{.path = TROUPE_SOURCE_DIR "/demo/" + std::string(GetParam()) + "-demo"}};
      o.config.device.backend = "cuda";
      o.config.cache.memory = {std::uint64_t{512} << 20};
      o.config.cache.prefix_cache = false;
      o.config.scheduler.step_tokens = step_tokens;
      o.config.scheduler.max_sequences = std::min(step_tokens, 32u);
    });
  }
  static tokens ask(client::connection server, const check::prompt_case& p) {
    client::generate_request request;
    request.prompt = client::token_prompt{p.ids};
    request.sampling = client::sampling_options{.temperature = 0};
    request.stop.max_tokens = path_tokens;
    request.stop.ignore_eos = true;
    request.logprobs = true;
    auto stream = server.generate(request);
    tokens out;
    while (auto piece = stream.next(patience))
      for (const auto& one : piece->tokens) out.push_back(one.token);
    return out;
  }
  std::vector<tokens> ask_alone(const demo_server& server) const {
    std::vector<tokens> out;
    for (const auto& p : prompts_) out.push_back(ask(server.connect(), p));
    return out;
  }
  std::vector<tokens> ask_together(const demo_server& server) const {
    std::vector<std::future<tokens>> asked;
    for (const auto& p : prompts_)
      asked.push_back(std::async(std::launch::async, [&] { return ask(server.connect(), p); }));
    std::vector<tokens> out;
    for (auto& one : asked) out.push_back(one.get());
    return out;
  }
  // How many keep the reference's greedy path.
  std::size_t on_path(const std::vector<tokens>& all) const {
    std::size_t count = 0;
    for (std::size_t i = 0; i < all.size(); ++i)
      count += std::equal(all[i].begin(), all[i].end(), prompts_[i].greedy_ids.begin()) ? 1 : 0;
    return count;
  }
  // The same tokens; where they part on the reference's path, that has two tokens of nearly the same logit there. Company and cut decide
  // which version of a product runs, and with it the last digits.
  void expect_same(const std::vector<tokens>& a, const std::vector<tokens>& b) const {
    constexpr double near_tie = 0.35;  // logits; bf16 keeps two to three digits
    std::size_t parted = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].size(), path_tokens) << prompts_[i].id;
      const auto [own, other] = std::mismatch(a[i].begin(), a[i].end(), b[i].begin());
      if (own == a[i].end()) continue;
      ++parted;
      const auto at = static_cast<std::size_t>(own - a[i].begin());
      if (std::equal(a[i].begin(), own, prompts_[i].greedy_ids.begin())) {
        EXPECT_LT(prompts_[i].greedy_margin[at], near_tie) << prompts_[i].id << ", token " << at;
      }
    }
    std::cout << GetParam() << ": " << parted << " of " << a.size() << " answers part behind a near-tie\n";
    EXPECT_LE(parted, a.size() / 5);
  }

  std::vector<check::prompt_case> prompts_;
};

TEST_P(CudaServe, KeepsTheReferencesPathAsOftenAsItsOwnBf16Run) {
  const auto server = serve();
  const auto found = on_path(ask_alone(*server));
  const auto wanted = static_cast<std::size_t>(
      std::count_if(prompts_.begin(), prompts_.end(), [](const auto& p) { return p.bf16_keeps_greedy; }));
  std::cout << GetParam() << ": " << found << " of " << prompts_.size()
            << " keep the path, of the reference in bf16 " << wanted << "\n";
  EXPECT_GE(found, wanted) << "of " << prompts_.size();
}

TEST_P(CudaServe, AnswersInCompanyAsAlone) {
  const auto server = serve();
  expect_same(ask_alone(*server), ask_together(*server));
}

TEST_P(CudaServe, AnswersAsMuchWhenPromptsComeInPieces) {
  const auto whole = ask_alone(*serve(4096)), pieces = ask_alone(*serve(48));
  expect_same(whole, pieces);
}

INSTANTIATE_TEST_SUITE_P(Demos, CudaServe, testing::Values("mixtral", "dbrx", "jamba"));

}  // namespace
}  // namespace troupe::test
