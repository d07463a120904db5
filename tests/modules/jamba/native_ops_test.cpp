// The native ops of the Jamba module, through the interface by which Troupe calls them, against plain recurrences in double
// precision.
#include "kernel/program/native_ops.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <random>

#include "kernel/modules/modules.hpp"
#include "ops/device/thread_pool.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe {
namespace {

using testing::HasSubstr;

using numbers = std::vector<float>;

struct stored_weight {
  std::vector<std::uint64_t> shape;
  numbers values;
  bool as_bf16 = false;  // the values are exact in it
};

// Rows of a sequence to feed in a step.
struct piece {
  std::size_t sequence = 0, rows = 0;
};

// One use of an op with the inputs of several whole sequences; feeds them piece by piece and keeps their states.
class op_bench {
 public:
  op_bench(const troupe_native_op& op, std::vector<std::size_t> columns, std::vector<stored_weight> weights,
           std::vector<std::vector<std::uint64_t>> states)
      : op_(op),
        columns_(std::move(columns)),
        weights_(std::move(weights)),
        state_shapes_(std::move(states)) {
    for (const std::size_t n : columns_) inputs_.push_back(tensor({0, n}));
    for (auto& w : weights_) place(w);
    for (std::size_t i = 0; i < weights_.size(); ++i) tables_[i].planes = &planes_[i];
    for (const auto& shape : state_shapes_) state_tables_.push_back(tensor(shape));
    use_.struct_size = sizeof use_;
    use_.input_count = static_cast<std::uint32_t>(inputs_.size());
    use_.output_count = 1;
    use_.weight_count = static_cast<std::uint32_t>(tables_.size());
    use_.state_count = static_cast<std::uint32_t>(state_tables_.size());
    use_.inputs = inputs_.data();
    use_.outputs = &output_;
    use_.weights = tables_.data();
    use_.states = state_tables_.data();
    use_.context = this;
    use_.fail = [](void* context, const char* text) -> troupe_status {
      static_cast<op_bench*>(context)->problem_ = text;
      return TROUPE_FAILED;
    };
  }
  op_bench(const op_bench&) = delete;

  std::string problem_of_shapes() { return op_.shapes(&use_) == TROUPE_OK ? "" : problem_; }

  // `inputs`: one [rows, columns] per input of the op.
  void add_sequence(std::vector<numbers> inputs) {
    sequences_.push_back({std::move(inputs), 0, {}, {}});
    for (const auto& shape : state_shapes_) {
      std::size_t size = 1;
      for (const auto n : shape) size *= n;
      sequences_.back().states.emplace_back(size);
    }
  }

  void step(const std::vector<piece>& pieces, unsigned threads = 2) {
    ASSERT_EQ(problem_of_shapes(), "");
    ops::thread_pool pool(threads);
    std::vector<std::uint32_t> rows{0}, positions;
    std::vector<numbers> in(columns_.size());
    for (const auto& p : pieces) {
      auto& s = sequences_[p.sequence];
      for (std::size_t i = 0; i < in.size(); ++i) {
        const auto from = s.inputs[i].begin() + static_cast<std::ptrdiff_t>(s.position * columns_[i]);
        in[i].insert(in[i].end(), from, from + static_cast<std::ptrdiff_t>(p.rows * columns_[i]));
      }
      positions.push_back(static_cast<std::uint32_t>(s.position));
      rows.push_back(rows.back() + static_cast<std::uint32_t>(p.rows));
    }
    numbers out(rows.back() * output_.shape[1], NAN);
    run(pool, pieces, rows, positions, in, out);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      auto& s = sequences_[pieces[i].sequence];
      s.position += pieces[i].rows;
      s.outputs.insert(s.outputs.end(), out.begin() + static_cast<std::ptrdiff_t>(rows[i] * output_.shape[1]),
                       out.begin() + static_cast<std::ptrdiff_t>(rows[i + 1] * output_.shape[1]));
    }
  }

  const numbers& outputs(std::size_t number) const { return sequences_[number].outputs; }
  numbers& state(std::size_t number, std::size_t i) { return sequences_[number].states[i]; }

 private:
  struct sequence {
    std::vector<numbers> inputs;
    std::size_t position = 0;
    std::vector<numbers> states;
    numbers outputs;
  };

  static troupe_tensor tensor(const std::vector<std::uint64_t>& shape) {
    troupe_tensor t = {TROUPE_F32, static_cast<std::uint32_t>(shape.size()), {1, 1, 1, 1}, nullptr};
    std::copy(shape.begin(), shape.end(), t.shape);
    return t;
  }

  void place(stored_weight& w) {
    troupe_weight table = {};
    table.dtype = w.as_bf16 ? TROUPE_BF16 : TROUPE_F32;
    table.rank = static_cast<std::uint32_t>(w.shape.size());
    std::fill(std::begin(table.shape), std::end(table.shape), 1);
    std::copy(w.shape.begin(), w.shape.end(), table.shape);
    tables_.push_back(table);
    if (w.as_bf16) {
      halves_.emplace_back();
      for (const float value : w.values) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &value, 4);
        halves_.back().push_back(static_cast<std::uint16_t>(bits >> 16));
      }
    }
    planes_.push_back(w.as_bf16 ? static_cast<const void*>(halves_.back().data()) : w.values.data());
  }

  void run(ops::thread_pool& pool, const std::vector<piece>& pieces, const std::vector<std::uint32_t>& rows,
           const std::vector<std::uint32_t>& positions, std::vector<numbers>& in, numbers& out) {
    for (std::size_t i = 0; i < in.size(); ++i) {
      inputs_[i].shape[0] = rows.back();
      inputs_[i].data = in[i].data();
    }
    output_.shape[0] = rows.back();
    output_.data = out.data();
    std::vector<std::vector<float*>> slots(state_shapes_.size());
    std::vector<float* const*> states;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      for (const auto& p : pieces) slots[i].push_back(sequences_[p.sequence].states[i].data());
      states.push_back(slots[i].data());
    }
    troupe_native_step step = {};
    step.struct_size = sizeof step;
    step.threads = pool.size();
    step.rows = rows.back();
    step.sequences = static_cast<std::uint32_t>(pieces.size());
    step.sequence_rows = rows.data();
    step.positions = positions.data();
    step.states = states.data();
    step.context = &pool;
    step.parallel_for = [](void* context, std::uint64_t count, std::uint64_t grain, troupe_native_part part,
                           void* part_context) {
      static_cast<ops::thread_pool*>(context)->parallel_for(
          count, grain, [=](std::size_t begin, std::size_t end, unsigned worker) {
            part(part_context, begin, end, worker);
          });
    };
    numbers workspace(op_.workspace(&use_, step.rows, step.sequences, step.threads) / sizeof(float), NAN);
    step.workspace = workspace.data();
    ASSERT_EQ(op_.cpu(&use_, &step), TROUPE_OK) << problem_;
  }

  const troupe_native_op& op_;
  std::vector<std::size_t> columns_;
  std::vector<stored_weight> weights_;
  std::vector<std::vector<std::uint64_t>> state_shapes_;
  std::vector<troupe_tensor> inputs_, state_tables_;
  troupe_tensor output_ = {};
  std::vector<troupe_weight> tables_;
  std::vector<const void*> planes_;
  std::deque<std::vector<std::uint16_t>> halves_;
  std::vector<sequence> sequences_;
  troupe_native_use use_ = {};
  std::string problem_;
};

// ---- the two ops on random numbers, and what they must give ----

class JambaOps : public testing::Test {
 protected:
  static constexpr std::size_t channels = 200, taps = 4,
                               state = 16;  // channels: more than a block, not a multiple

  static void SetUpTestSuite() {
    folder_ = std::make_unique<test::temp_folder>();
    auto m = modules::store::open(folder_->path())->load(TROUPE_BINARY_DIR "/lib/troupe/modules/jamba.so");
    ASSERT_TRUE(m) << m.error().text;
    auto ops = (*m)->native_ops();
    ASSERT_TRUE(ops) << ops.error().text;
    ops_ = std::make_unique<program::native_ops>(std::move(*ops));
  }
  static void TearDownTestSuite() {
    ops_.reset();
    folder_.reset();
  }
  static const troupe_native_op& op(const char* name) {
    const auto* found = ops_->find(name, 1);
    if (found == nullptr) throw std::runtime_error(std::string("no op ") + name);
    return *found;
  }

  numbers random(std::size_t count, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    numbers out(count);
    // Exact in bf16.
    for (float& x : out) x = std::round(normal(random_) * 16) / 16;
    return out;
  }

  std::vector<numbers> conv_inputs(std::size_t rows) { return {random(rows * channels, 0, 1)}; }
  std::vector<numbers> scan_inputs(std::size_t rows) {
    return {random(rows * channels, 0, 1), random(rows * channels, -1, 2), random(rows * state, 0, 1),
            random(rows * state, 0, 1), random(rows * channels, 0, 2)};
  }

  std::unique_ptr<op_bench> conv(bool as_bf16 = false) {
    return std::make_unique<op_bench>(op("causal_conv"), std::vector<std::size_t>{channels},
                                      std::vector<stored_weight>{{{channels, taps}, conv_weight_, as_bf16},
                                                                 {{channels}, conv_bias_, as_bf16}},
                                      std::vector<std::vector<std::uint64_t>>{{taps - 1, channels}});
  }
  std::unique_ptr<op_bench> scan(bool as_bf16 = false) {
    return std::make_unique<op_bench>(op("selective_scan"),
                                      std::vector<std::size_t>{channels, channels, state, state, channels},
                                      std::vector<stored_weight>{{{channels, state}, a_log_, as_bf16},
                                                                 {{channels}, skip_, as_bf16},
                                                                 {{channels}, dt_bias_, as_bf16}},
                                      std::vector<std::vector<std::uint64_t>>{{state, channels}});
  }

  static double silu(double x) { return x / (1 + std::exp(-x)); }

  std::vector<double> expected_conv(const std::vector<numbers>& in) const {
    const std::size_t rows = in[0].size() / channels;
    std::vector<double> y;
    for (std::size_t t = 0; t < rows; ++t)
      for (std::size_t n = 0; n < channels; ++n) {
        double sum = conv_bias_[n];
        for (std::size_t k = 0; k < taps; ++k)
          if (t + k + 1 >= taps)
            sum += double{conv_weight_[n * taps + k]} * in[0][(t + k + 1 - taps) * channels + n];
        y.push_back(silu(sum));
      }
    return y;
  }

  std::vector<double> expected_scan(const std::vector<numbers>& in) const {
    const std::size_t rows = in[0].size() / channels;
    std::vector<double> y, h(channels * state);
    for (std::size_t t = 0; t < rows; ++t)
      for (std::size_t n = 0; n < channels; ++n) {
        const double u = in[0][t * channels + n];
        const double d = std::log1p(std::exp(double{in[1][t * channels + n]} + dt_bias_[n]));
        double sum = 0;
        for (std::size_t s = 0; s < state; ++s) {
          double& one = h[n * state + s];
          one = std::exp(-std::exp(double{a_log_[n * state + s]}) * d) * one + d * in[2][t * state + s] * u;
          sum += one * in[3][t * state + s];
        }
        y.push_back((sum + skip_[n] * u) * silu(in[4][t * channels + n]));
      }
    return y;
  }

  static void expect_near(const numbers& found, const std::vector<double>& expected, double tolerance) {
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(found[i], expected[i], tolerance * (1 + std::abs(expected[i]))) << "number " << i;
  }

  std::mt19937 random_{1};
  numbers conv_weight_ = random(channels * taps, 0, 0.5f), conv_bias_ = random(channels, 0, 0.5f);
  numbers a_log_ = random(channels * state, 1, 0.7f), skip_ = random(channels, 1, 0.5f),
          dt_bias_ = random(channels, -2, 1);

  static inline std::unique_ptr<test::temp_folder> folder_;
  static inline std::unique_ptr<program::native_ops> ops_;
};

TEST_F(JambaOps, ConvolveAsAPlainLoopDoes) {
  const auto in = conv_inputs(70);
  const auto bench = conv();
  bench->add_sequence(in);
  bench->step({{0, 70}});
  expect_near(bench->outputs(0), expected_conv(in), 2e-6);
}

TEST_F(JambaOps, ScanAsAPlainRecurrenceDoes) {
  const auto in = scan_inputs(70);
  const auto bench = scan();
  bench->add_sequence(in);
  bench->step({{0, 70}});
  expect_near(bench->outputs(0), expected_scan(in), 1e-5);
}

TEST_F(JambaOps, ScanStaysRightWhereExponentialsEnd) {
  auto in = scan_inputs(6);
  const float extremes[] = {-200, -60, -20, 20, 60, 200};
  for (std::size_t t = 0; t < 6; ++t)
    for (std::size_t n = 0; n < channels; ++n) {
      in[1][t * channels + n] = extremes[(t + n) % 6];
      in[4][t * channels + n] = extremes[(t + n / 6) % 6];
    }
  const auto bench = scan();
  bench->add_sequence(in);
  bench->step({{0, 6}});
  expect_near(bench->outputs(0), expected_scan(in), 1e-5);
}

// Three sequences, cut and mixed at random, on one to three threads; each must come out as if it ran alone in one piece.
void expect_independence(const std::function<std::unique_ptr<op_bench>()>& make,
                         const std::vector<std::vector<numbers>>& inputs, std::size_t columns) {
  std::vector<numbers> alone;
  for (const auto& in : inputs) {
    const auto bench = make();
    bench->add_sequence(in);
    bench->step({{0, in[0].size() / columns}}, 1);
    alone.push_back(bench->outputs(0));
  }
  for (unsigned seed = 0; seed < 12; ++seed) {
    std::mt19937 random(seed);
    const auto bench = make();
    std::vector<std::size_t> left;
    for (const auto& in : inputs) {
      bench->add_sequence(in);
      left.push_back(in[0].size() / columns);
    }
    while (std::any_of(left.begin(), left.end(), [](auto n) { return n > 0; })) {
      std::vector<piece> pieces;
      for (std::size_t s = 0; s < left.size(); ++s) {
        const auto most = seed % 3 == 0 ? 1 : 1 + random() % 20;
        const auto rows = std::min<std::size_t>(left[s], random() % 4 == 0 ? 0 : most);
        if (rows == 0 && random() % 2 == 0) continue;  // not in the step; else there without rows
        pieces.push_back({s, rows});
        left[s] -= rows;
      }
      std::shuffle(pieces.begin(), pieces.end(), random);
      bench->step(pieces, 1 + seed % 3);
    }
    for (std::size_t s = 0; s < inputs.size(); ++s)
      ASSERT_EQ(std::memcmp(bench->outputs(s).data(), alone[s].data(), alone[s].size() * sizeof(float)), 0)
          << "sequence " << s << ", seed " << seed;
  }
}

TEST_F(JambaOps, ConvolveToTheSameBitsHoweverCutAndMixed) {
  expect_independence([&] { return conv(); }, {conv_inputs(40), conv_inputs(3), conv_inputs(61)}, channels);
}

TEST_F(JambaOps, ScanToTheSameBitsHoweverCutAndMixed) {
  expect_independence([&] { return scan(); }, {scan_inputs(40), scan_inputs(3), scan_inputs(61)}, channels);
}

TEST_F(JambaOps, LeaveTheStateOfASequenceWithoutRowsAlone) {
  for (const bool is_conv : {true, false}) {
    const auto bench = is_conv ? conv() : scan();
    for (int s = 0; s < 2; ++s) bench->add_sequence(is_conv ? conv_inputs(4) : scan_inputs(4));
    bench->step({{0, 4}, {1, 2}});
    const auto before = bench->state(0, 0);
    EXPECT_NE(before, numbers(before.size()));
    bench->step({{0, 0}, {1, 2}});
    EXPECT_EQ(bench->state(0, 0), before);
  }
}

TEST_F(JambaOps, ReadWeightsOfBf16AsTheirNumbers) {
  for (const bool is_conv : {true, false}) {
    const auto in = is_conv ? conv_inputs(9) : scan_inputs(9);
    const auto wide = is_conv ? conv() : scan(), narrow = is_conv ? conv(true) : scan(true);
    for (const auto& bench : {wide.get(), narrow.get()}) {
      bench->add_sequence(in);
      bench->step({{0, 9}});
    }
    EXPECT_EQ(wide->outputs(0), narrow->outputs(0));
  }
}

TEST_F(JambaOps, ConvolveWithoutABiasWhereThereIsNone) {
  std::fill(conv_bias_.begin(), conv_bias_.end(), 0.0f);
  const auto in = conv_inputs(9);
  op_bench bench(op("causal_conv"), {channels}, {{{channels, taps}, conv_weight_}}, {{taps - 1, channels}});
  bench.add_sequence(in);
  bench.step({{0, 9}});
  expect_near(bench.outputs(0), expected_conv(in), 2e-6);
}

TEST_F(JambaOps, SayWhichOperandDoesNotFit) {
  const auto conv_problem = [&](std::vector<stored_weight> weights, std::vector<std::uint64_t> columns) {
    return op_bench(op("causal_conv"), {8}, std::move(weights), {std::move(columns)}).problem_of_shapes();
  };
  EXPECT_EQ(conv_problem({{{8, 4}}, {{8}}}, {3, 8}), "");
  EXPECT_THAT(conv_problem({{{8}}}, {3, 8}), HasSubstr("weight: expected [N, K] with K from 2 to 64"));
  EXPECT_THAT(conv_problem({{{8, 1}}}, {3, 8}), HasSubstr("with K from 2 to 64"));
  EXPECT_EQ(conv_problem({{{7, 4}}}, {3, 8}), "weight: expected [8, 4], found [7, 4]");
  EXPECT_EQ(conv_problem({{{8, 4}}, {{4}}}, {3, 8}), "bias: expected [8], found [4]");
  EXPECT_EQ(conv_problem({{{8, 4}}}, {8, 3}), "columns: expected [3, 8], found [8, 3]");

  const auto scan_problem = [&](std::vector<std::size_t> columns, std::vector<std::uint64_t> a,
                                std::vector<std::uint64_t> ssm) {
    return op_bench(op("selective_scan"), std::move(columns), {{std::move(a)}, {{8}}, {{8}}},
                    {std::move(ssm)})
        .problem_of_shapes();
  };
  EXPECT_EQ(scan_problem({8, 8, 2, 2, 8}, {8, 2}, {2, 8}), "");
  EXPECT_EQ(scan_problem({8, 9, 2, 2, 8}, {8, 2}, {2, 8}), "dt: expected [T, 8], found [T, 9]");
  EXPECT_EQ(scan_problem({8, 8, 2, 3, 8}, {8, 2}, {2, 8}), "C: expected [T, 2], found [T, 3]");
  EXPECT_EQ(scan_problem({8, 8, 2, 2, 4}, {8, 2}, {2, 8}), "z: expected [T, 8], found [T, 4]");
  EXPECT_EQ(scan_problem({8, 8, 2, 2, 8}, {2, 8}, {2, 8}), "A_log: expected [8, 2], found [2, 8]");
  EXPECT_EQ(scan_problem({8, 8, 2, 2, 8}, {8, 2}, {8, 2}), "ssm: expected [2, 8], found [8, 2]");
  EXPECT_THAT(scan_problem({8, 8, 300, 300, 8}, {8, 300}, {300, 8}),
              HasSubstr("B: expected at most 256 columns"));
}

}  // namespace
}  // namespace troupe
