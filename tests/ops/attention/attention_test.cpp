#include "ops/attention/attention.hpp"

#include <cmath>
#include <numeric>

#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {
namespace {

// Queries, keys and values of whole sequences, and how they are fed.
struct sequence_case {
  matrix q, k, v;
  std::size_t length() const { return q.rows; }
};

// A pool of blocks filled with NaN, so that reading what was never written shows.
class paged_pool {
 public:
  paged_pool(const attention_shape& shape, std::size_t block_tokens, std::size_t blocks)
      : layer_(2 * shape.kv_heads * shape.head_dim * block_tokens), memory_(blocks * 2 * layer_ + 16, NAN) {
    // The second of two layers in each block.
    cache_ = {memory_.data(), 2 * layer_, layer_, block_tokens, shape.kv_heads, shape.head_dim};
  }
  const kv_cache& cache() const { return cache_; }

 private:
  std::size_t layer_;
  std::vector<float> memory_;
  kv_cache cache_;
};

class Attention : public OpTest {
 protected:
  static sequence_case random_sequence(const attention_shape& shape, std::size_t length, unsigned seed) {
    return {random_matrix(length, shape.heads * shape.head_dim, seed),
            random_matrix(length, shape.kv_heads * shape.head_dim, seed + 1),
            random_matrix(length, shape.kv_heads * shape.head_dim, seed + 2)};
  }

  // Feeds the sequences in steps; step i takes cuts[s][i] rows of sequence s. Returns each sequence's output.
  std::vector<matrix> run(const attention_shape& shape, const std::vector<sequence_case>& sequences,
                          const std::vector<std::vector<std::size_t>>& cuts, std::size_t block_tokens,
                          std::uint32_t first_block = 0, bool backwards = false) {
    std::size_t blocks = first_block;
    for (const auto& one : sequences) blocks += (one.length() + block_tokens - 1) / block_tokens;
    paged_pool pool(shape, block_tokens, blocks);
    std::vector<std::vector<std::uint32_t>> tables;
    std::uint32_t next = first_block;
    for (const auto& one : sequences) {
      auto& table = tables.emplace_back((one.length() + block_tokens - 1) / block_tokens);
      std::iota(table.begin(), table.end(), next);
      if (backwards) std::reverse(table.begin(), table.end());
      next += static_cast<std::uint32_t>(table.size());
    }
    std::vector<matrix> outputs;
    for (const auto& one : sequences) outputs.emplace_back(one.length(), shape.heads * shape.head_dim);
    std::vector<std::size_t> fed(sequences.size());
    std::size_t steps = 0;
    for (const auto& cut : cuts) steps = std::max(steps, cut.size());
    for (std::size_t i = 0; i < steps; ++i) {
      run_step(shape, sequences, cuts, i, tables, pool, fed, outputs);
    }
    return outputs;
  }

  void run_step(const attention_shape& shape, const std::vector<sequence_case>& sequences,
                const std::vector<std::vector<std::size_t>>& cuts, std::size_t i,
                const std::vector<std::vector<std::uint32_t>>& tables, paged_pool& pool,
                std::vector<std::size_t>& fed, std::vector<matrix>& outputs) {
    std::vector<std::int32_t> positions;
    std::vector<std::uint32_t> starts{0};
    std::vector<std::span<const std::uint32_t>> spans;
    std::vector<float> q, k, v;
    const auto append = [](std::vector<float>& to, const matrix& part) {
      to.insert(to.end(), part.values.begin(), part.values.end());
    };
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      const std::size_t count = i < cuts[s].size() ? cuts[s][i] : 0;
      for (std::size_t t = 0; t < count; ++t) positions.push_back(static_cast<std::int32_t>(fed[s] + t));
      append(q, sequences[s].q.slice(fed[s], fed[s] + count));
      append(k, sequences[s].k.slice(fed[s], fed[s] + count));
      append(v, sequences[s].v.slice(fed[s], fed[s] + count));
      starts.push_back(static_cast<std::uint32_t>(positions.size()));
      spans.emplace_back(tables[s]);
    }
    const std::size_t rows = positions.size();
    matrix y(rows, shape.heads * shape.head_dim);
    ops().attention(context(), y.view(), {q.data(), rows, shape.heads * shape.head_dim},
                    {k.data(), rows, shape.kv_heads * shape.head_dim},
                    {v.data(), rows, shape.kv_heads * shape.head_dim}, pool.cache(),
                    {positions, starts, spans}, shape);
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      const std::size_t count = starts[s + 1] - starts[s];
      std::copy(y.values.begin() + starts[s] * y.width, y.values.begin() + starts[s + 1] * y.width,
                outputs[s].values.begin() + fed[s] * y.width);
      fed[s] += count;
    }
  }

  static std::vector<std::size_t> chunks(std::size_t length, std::size_t chunk) {
    std::vector<std::size_t> sizes;
    for (std::size_t first = 0; first < length; first += chunk)
      sizes.push_back(std::min(chunk, length - first));
    return sizes;
  }
};
TROUPE_ON_ALL_VERSIONS(Attention);

attention_shape make_shape(std::size_t heads, std::size_t kv_heads, std::size_t head_dim,
                           std::size_t window = 0, float soft_cap = 0) {
  return {heads, kv_heads, head_dim, 1 / std::sqrt(static_cast<float>(head_dim)), window, soft_cap};
}

const attention_shape shapes[] = {
    make_shape(8, 2, 32),       make_shape(1, 1, 8),           make_shape(6, 1, 20),
    make_shape(4, 4, 64),       make_shape(8, 2, 32, 50),      make_shape(3, 1, 7, 1),
    make_shape(6, 2, 128, 200), make_shape(4, 2, 20, 0, 1.5f), make_shape(4, 1, 32, 60, 0.5f)};

double expected_output(const attention_shape& shape, const sequence_case& one, std::size_t t,
                       std::size_t head, std::size_t d) {
  const std::size_t kv = head / (shape.heads / shape.kv_heads);
  const std::size_t begin = shape.window != 0 && t + 1 > shape.window ? t + 1 - shape.window : 0;
  std::vector<double> scores;
  for (std::size_t j = begin; j <= t; ++j) {
    double dot = 0;
    for (std::size_t i = 0; i < shape.head_dim; ++i) {
      dot += double{one.q.at(t, head * shape.head_dim + i)} * one.k.at(j, kv * shape.head_dim + i);
    }
    const double score = dot * shape.scale;
    scores.push_back(shape.soft_cap == 0 ? score : shape.soft_cap * std::tanh(score / shape.soft_cap));
  }
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0, out = 0;
  for (std::size_t j = begin; j <= t; ++j) {
    const double weight = std::exp(scores[j - begin] - most);
    sum += weight;
    out += weight * one.v.at(j, kv * shape.head_dim + d);
  }
  return out / sum;
}

TEST_P(Attention, EqualsTheFormulaInDoublePrecision) {
  for (const auto& shape : shapes) {
    const std::size_t lengths[] = {1, 37, 290};
    std::vector<sequence_case> sequences;
    std::vector<std::vector<std::size_t>> cuts;
    for (const std::size_t length : lengths) {
      sequences.push_back(random_sequence(shape, length, static_cast<unsigned>(length)));
      cuts.push_back({length});
    }
    const auto outputs = run(shape, sequences, cuts, 16);
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      for (std::size_t t = 0; t < lengths[s]; t += 13) {
        for (std::size_t head = 0; head < shape.heads; ++head) {
          for (std::size_t d = 0; d < shape.head_dim; d += 11) {
            ASSERT_NEAR(outputs[s].at(t, head * shape.head_dim + d),
                        expected_output(shape, sequences[s], t, head, d), 5e-6)
                << "row " << t << " head " << head;
          }
        }
      }
    }
  }
}

TEST_P(Attention, ChunksOfAnySizeAndSingleTokensEqualTheWholeBitForBit) {
  for (const auto& shape : shapes) {
    const std::vector<sequence_case> one{random_sequence(shape, 300, 1)};
    const auto whole = run(shape, one, {{300}}, 16);
    for (const std::size_t chunk : {1u, 5u, 16u, 127u, 129u}) {
      ASSERT_TRUE(same_bits(run(shape, one, {chunks(300, chunk)}, 16)[0], whole[0])) << chunk;
    }
  }
}

TEST_P(Attention, ASequenceAmongOthersEqualsTheSequenceAloneBitForBit) {
  for (const auto& shape : shapes) {
    std::vector<sequence_case> sequences;
    std::vector<std::vector<std::size_t>> cuts{
        {1, 1, 1, 1}, {40, 1, 90, 3}, {150}, {0, 5, 0, 130}, {2, 2, 2, 2}};
    for (std::size_t s = 0; s < cuts.size(); ++s) {
      const std::size_t length = std::accumulate(cuts[s].begin(), cuts[s].end(), std::size_t{0});
      sequences.push_back(random_sequence(shape, length, static_cast<unsigned>(100 * s)));
    }
    const auto together = run(shape, sequences, cuts, 16);
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      ASSERT_TRUE(same_bits(run(shape, {sequences[s]}, {{sequences[s].length()}}, 16)[0], together[s])) << s;
    }
  }
}

TEST_P(Attention, BlocksOfAnySizeInAnyOrderGiveTheSameBits) {
  for (const auto& shape : shapes) {
    const std::vector<sequence_case> one{random_sequence(shape, 261, 3)};
    const auto usual = run(shape, one, {{261}}, 16);
    for (const std::size_t block_tokens : {1u, 10u, 17u, 100u, 512u}) {
      ASSERT_TRUE(same_bits(run(shape, one, {{200, 1, 60}}, block_tokens, 5, true)[0], usual[0]))
          << block_tokens;
    }
  }
}

TEST_P(Attention, AnInfinityInALaterTokenDoesNotReachEarlierOnes) {
  const auto shape = make_shape(8, 2, 32);
  std::vector<sequence_case> one{random_sequence(shape, 50, 4)};
  const auto clean = run(shape, one, {{50}}, 16);
  for (std::size_t d = 0; d < 64; ++d) one[0].v.at(49, d) = std::numeric_limits<float>::infinity();
  const auto damaged = run(shape, one, {{50}}, 16);
  EXPECT_TRUE(same_bits(clean[0].slice(0, 49), damaged[0].slice(0, 49)));
  EXPECT_FALSE(std::isfinite(damaged[0].at(49, 0)));
}

TEST_P(Attention, AScoreThatIsNoNumberIsNotHiddenByTheCap) {
  const auto shape = make_shape(2, 1, 16, 0, 2);
  std::vector<sequence_case> one{random_sequence(shape, 140, 6)};
  for (std::size_t d = 0; d < 16; ++d) one[0].k.at(70, d) = NAN;
  const auto outputs = run(shape, one, {{140}}, 16);
  EXPECT_TRUE(std::isfinite(outputs[0].at(69, 0)));
  EXPECT_TRUE(std::isnan(outputs[0].at(70, 0)));
  EXPECT_TRUE(std::isnan(outputs[0].at(139, 0)));
}

TEST_P(Attention, AScoreThatIsNoNumberOrInfiniteIsNotHidden) {
  const auto shape = make_shape(2, 1, 16);
  for (const float bad : {NAN, std::numeric_limits<float>::infinity()}) {
    for (const std::size_t position : {3u, 70u}) {
      std::vector<sequence_case> one{random_sequence(shape, 140, 6)};
      for (std::size_t d = 0; d < 16; ++d) one[0].k.at(position, d) = bad;
      const auto outputs = run(shape, one, {{140}}, 16);
      EXPECT_TRUE(std::isfinite(outputs[0].at(position - 1, 0)));
      EXPECT_TRUE(std::isnan(outputs[0].at(position, 0)));
      EXPECT_TRUE(std::isnan(outputs[0].at(139, 0)));
    }
  }
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  const auto shape = make_shape(2, 1, 16);
  std::vector<sequence_case> one{random_sequence(shape, 140, 5)};
  for (float& value : one[0].q.values) value *= 200;
  const auto outputs = run(shape, one, {{140}}, 16);
  for (const float value : outputs[0].values) ASSERT_TRUE(std::isfinite(value));
}

}  // namespace
}  // namespace troupe::ops
