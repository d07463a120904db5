// The choice of tokens on the device against the sampler's: the same token for the same logits, parameters and draw.
#include <map>
#include <random>

#include "ops/sampling/sampler.hpp"
#include "ops/sampling/sampler_cuda.hpp"
#include "tests/ops/backends/cuda/on_device.hpp"

namespace troupe::ops {
namespace {

struct one_case {
  sampling_params params;
  std::vector<std::int32_t> history, banned;
  std::uint32_t prompt_tokens = 0;
  std::uint64_t position = 0;
  std::int32_t top = -1;
  std::int32_t pending_token = -1;
};

one_case random_case(std::mt19937& random, std::size_t vocabulary) {
  one_case c;
  const auto some = [&](unsigned n) { return random() % n; };
  auto& p = c.params;
  p.temperature = some(5) == 0 ? 0.0f : 0.2f + 0.3f * static_cast<float>(some(6));
  p.top_k = some(2) == 0 ? 0 : 1 + some(60);
  p.top_p = some(2) == 0 ? 1.0f : 0.05f + 0.15f * static_cast<float>(some(6));
  p.min_p = some(3) == 0 ? 0.1f : 0.0f;
  p.seed = random();
  c.position = some(1000);
  if (some(3) == 0) {
    p.repetition_penalty = 1.3f;
    p.presence_penalty = 0.4f;
    p.frequency_penalty = 0.2f;
  }
  if (some(4) == 0)
    for (int i = 0; i < 5; ++i)
      p.logit_bias.emplace_back(static_cast<std::int32_t>(some(static_cast<unsigned>(vocabulary))), 2.5f);
  for (int i = 0; i < 40; ++i)
    c.history.push_back(static_cast<std::int32_t>(some(static_cast<unsigned>(vocabulary))));
  c.prompt_tokens = 15;
  if (some(4) == 0) c.banned = {static_cast<std::int32_t>(some(static_cast<unsigned>(vocabulary))), 1};
  if (some(3) == 0) c.top = static_cast<std::int32_t>(some(6));
  if (some(3) == 0)
    c.pending_token =
        some(2) == 0 ? c.history[20] : static_cast<std::int32_t>(some(static_cast<unsigned>(vocabulary)));
  return c;
}

class CudaSampler : public CudaOps {
 protected:
  struct answer {
    std::vector<device_choice> choices;
    std::vector<device_alternative> top;
  };
  static constexpr std::size_t most_top = 8;

  answer choose(const matrix& logits, const std::vector<one_case>& cases) {
    std::vector<device_request> requests;
    std::vector<bias_entry> biases;
    std::vector<history_entry> histories;
    std::vector<std::int32_t> bans, earlier;
    for (const auto& c : cases) {
      device_request r;
      const auto& p = c.params;
      r.logit_row = r.scratch = static_cast<std::int32_t>(requests.size());
      r.top_logprobs = c.top;
      r.seed = p.seed;
      r.position = c.position;
      r.temperature = p.temperature;
      r.top_k = p.top_k;
      r.top_p = p.top_p;
      r.min_p = p.min_p;
      r.repetition_penalty = p.repetition_penalty;
      r.presence_penalty = p.presence_penalty;
      r.frequency_penalty = p.frequency_penalty;
      r.bias_begin = static_cast<std::uint32_t>(biases.size());
      for (const auto& [token, bias] : p.logit_bias) biases.push_back({token, bias});
      r.bias_end = static_cast<std::uint32_t>(biases.size());
      std::map<std::int32_t, std::uint32_t> counts;
      for (std::size_t i = 0; i < c.history.size(); ++i) counts[c.history[i]] += i >= c.prompt_tokens;
      r.history_begin = static_cast<std::uint32_t>(histories.size());
      for (const auto& [token, count] : counts) histories.push_back({token, count});
      r.history_end = static_cast<std::uint32_t>(histories.size());
      r.banned_begin = static_cast<std::uint32_t>(bans.size());
      bans.insert(bans.end(), c.banned.begin(), c.banned.end());
      r.banned_end = static_cast<std::uint32_t>(bans.size());
      if (c.pending_token >= 0) r.pending = static_cast<std::int32_t>(requests.size());
      earlier.push_back(c.pending_token);
      requests.push_back(r);
    }
    const device_matrix_of_floats on(logits);
    const on_device<device_request> dr(requests);
    const on_device<bias_entry> db(biases);
    const on_device<history_entry> dh(histories);
    const on_device<std::int32_t> dn(bans), de(earlier), tokens(cases.size());
    const on_device<float> scratch(logits.values.size());
    const on_device<device_choice> choices(cases.size());
    const on_device<device_alternative> top(cases.size() * most_top);
    sample_cuda(nullptr, on.in(), {dr.data(), db.data(), dh.data(), dn.data(), de.data()}, cases.size(),
                scratch.data(), choices.data(), tokens.data(), top.data(), most_top);
    const auto chosen = tokens.read();
    answer out{choices.read(), top.read()};
    for (std::size_t i = 0; i < chosen.size(); ++i) EXPECT_EQ(chosen[i], out.choices[i].token);
    return out;
  }
};

TEST_F(CudaSampler, ChoosesWhatTheSamplerChooses) {
  std::mt19937 random(11);
  std::size_t compared = 0, different = 0;
  for (const std::size_t vocabulary : {5u, 1000u, 32003u}) {
    const std::size_t rows = vocabulary > 10000 ? 100 : 400;
    auto logits = random_matrix(rows, vocabulary, static_cast<unsigned>(vocabulary), 3);
    for (std::size_t i = 0; i < vocabulary; i += 3) logits.at(0, i) = 1.5f;  // equal ones
    std::vector<one_case> cases;
    for (std::size_t i = 0; i < rows; ++i) cases.push_back(random_case(random, vocabulary));
    const auto found = choose(logits, cases);
    sampler truth;
    for (std::size_t i = 0; i < rows; ++i) {
      auto& c = cases[i];
      if (c.pending_token >= 0) c.history.push_back(c.pending_token);
      const std::span<const float> row(logits.values.data() + i * vocabulary, vocabulary);
      const auto expected =
          truth.sample(row, c.params, {c.history, c.prompt_tokens, c.position, c.banned, c.top});
      ++compared;
      EXPECT_EQ(found.choices[i].finite != 0, expected.finite);
      if (found.choices[i].token != expected.token) {
        ++different;  // a sum that differs in its last digit may move a border
        continue;
      }
      if (c.top < 0 || !expected.finite) continue;
      EXPECT_NEAR(found.choices[i].logprob, expected.logprob, 1e-4);
      ASSERT_EQ(found.choices[i].top_count, static_cast<std::int32_t>(expected.top.size()));
      for (std::size_t t = 0; t < expected.top.size(); ++t) {
        EXPECT_EQ(found.top[i * most_top + t].token, expected.top[t].token);
        EXPECT_NEAR(found.top[i * most_top + t].logprob, expected.top[t].logprob, 1e-4);
      }
    }
  }
  EXPECT_LE(different * 200, compared) << different << " of " << compared;
}

TEST_F(CudaSampler, RowsThatAreNotFiniteAreToldSo) {
  matrix logits(4, 50);
  std::fill(logits.values.begin(), logits.values.end(), 0.5f);
  logits.at(0, 3) = NAN;
  logits.at(1, 49) = INFINITY;
  for (std::size_t i = 0; i < 50; ++i) logits.at(2, i) = -INFINITY;
  const auto found = choose(logits, std::vector<one_case>(4));
  for (const std::size_t row : {0u, 1u, 2u}) {
    EXPECT_EQ(found.choices[row].finite, 0);
    EXPECT_EQ(found.choices[row].token, -1);
  }
  EXPECT_NE(found.choices[3].finite, 0);
}

}  // namespace
}  // namespace troupe::ops
