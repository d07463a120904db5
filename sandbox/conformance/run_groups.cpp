// Groups that run a small relative of each configuration with random weights.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <memory>

#include "sandbox/conformance/model_runner.hpp"
#include "sandbox/conformance/subject.hpp"

namespace troupe::conformance {

namespace {

using check::model_runner;

constexpr std::uint64_t cache_tokens = 1024;
// Plain and fast operations add in another order. Relative to the largest logit.
constexpr double tolerance = 2e-3;

using tokens = std::vector<std::int32_t>;
using rows = std::vector<std::vector<float>>;  // one per position: logits [V]

// Lengths on both sides of a cache block's; the second begins like the first.
std::vector<tokens> some_sequences(const program::Program& p) {
  const std::uint32_t longest = std::min<std::uint32_t>(p.facts()->context_tokens(), 37);
  std::uint64_t state = 12345;
  std::vector<tokens> all;
  for (const std::uint32_t length : {23u, 37u, 1u, 8u}) {
    tokens t;
    if (all.size() == 1)
      t.assign(all[0].begin(),
               all[0].begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(9, all[0].size())));
    while (t.size() < std::min(length, longest)) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      t.push_back(static_cast<std::int32_t>((state >> 33) % p.facts()->vocabulary()));
    }
    all.push_back(std::move(t));
  }
  return all;
}

// Runs sequences on one runner and keeps the logits behind every token.
class recorder {
 public:
  static result<recorder> open(const subject& s, const small_model& m, std::uint32_t threads, bool plain) {
    check::runner_options o;
    o.library = s.given().backend;
    o.threads = threads;
    o.reference_ops = plain;
    o.cache_tokens = cache_tokens;
    auto native = s.module().native_ops();
    if (!native) return fail(std::move(native.error()));
    o.native_ops = std::move(*native);
    auto runner = model_runner::open(m.program, m.weights, o);
    if (!runner) return fail(std::move(runner.error()));
    return recorder(s, std::move(*runner));
  }

  struct part {
    std::size_t sequence;
    std::span<const std::int32_t> tokens;
  };
  result<void> step(const std::vector<part>& parts) {
    subject_.alive();
    std::vector<model_runner::piece> pieces;
    std::size_t total = 0;
    for (const auto& p : parts) {
      pieces.push_back({p.sequence, p.tokens, {}});
      for (std::uint32_t i = 0; i < p.tokens.size(); ++i) pieces.back().wanted.push_back(i);
      total += p.tokens.size();
    }
    if (auto ran = runner_->run(pieces); !ran) return ran;
    const auto logits = runner_->logits(total);
    auto at = logits.begin();
    const auto width = static_cast<std::ptrdiff_t>(runner_->vocabulary());
    for (const auto& p : parts)
      for (std::size_t i = 0; i < p.tokens.size(); ++i, at += width)
        seen_[p.sequence].emplace_back(at, at + width);
    return {};
  }

  const rows& of(std::size_t sequence) { return seen_[sequence]; }
  void reset() {
    runner_->reset();
    seen_.clear();
  }
  std::string device() const { return runner_->device(); }

 private:
  recorder(const subject& s, std::unique_ptr<model_runner> r) : subject_(s), runner_(std::move(r)) {}
  const subject& subject_;
  std::unique_ptr<model_runner> runner_;
  std::map<std::size_t, rows> seen_;
};

// Each alone, whole, on a runner that has forgotten everything.
result<std::vector<rows>> run_alone(recorder& r, const std::vector<tokens>& sequences) {
  std::vector<rows> all;
  for (const auto& t : sequences) {
    r.reset();
    if (auto ran = r.step({{0, t}}); !ran) return fail(std::move(ran.error()));
    all.push_back(r.of(0));
  }
  return all;
}

// Where the bits differ first; empty = nowhere.
std::string difference(const rows& expected, const rows& found) {
  if (expected.size() != found.size())
    return fmt::format("expected logits behind {} tokens, found {}", expected.size(), found.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    for (std::size_t j = 0; j < expected[i].size(); ++j)
      if (std::bit_cast<std::uint32_t>(expected[i][j]) != std::bit_cast<std::uint32_t>(found[i][j]))
        return fmt::format("position {}, token {}: expected the logit {}, bit for bit, found {}", i, j,
                           expected[i][j], found[i][j]);
  return {};
}

std::string first_problem(const std::vector<rows>& expected, recorder& r) {
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (auto problem = difference(expected[i], r.of(i)); !problem.empty())
      return fmt::format("sequence {}: {}", i, problem);
  return {};
}

// `next(sequence, step)`: so many of its tokens in that step, 0 = it waits. Until all are done.
template <class Next>
result<void> run_mixed(recorder& r, const std::vector<tokens>& sequences,
                       const std::vector<std::size_t>& order, Next next) {
  std::vector<std::size_t> done(sequences.size(), 0);
  r.reset();
  for (std::size_t step = 0;; ++step) {
    std::vector<recorder::part> parts;
    bool open = false;
    for (const std::size_t i : order) {
      const std::size_t left = sequences[i].size() - done[i];
      open = open || left > 0;
      const std::size_t n = std::min<std::size_t>(left, next(i, step));
      if (n == 0) continue;
      parts.push_back({i, std::span(sequences[i]).subspan(done[i], n)});
      done[i] += n;
    }
    if (!open) return {};
    if (parts.empty()) continue;
    if (auto ran = r.step(parts); !ran) return ran;
  }
}

class batch_cases {
 public:
  batch_cases(const subject& s, check::group& out, const small_model& m, recorder& r,
              const std::vector<tokens>& sequences, const std::vector<rows>& alone)
      : subject_(s), out_(out), model_(m), recorder_(r), sequences_(sequences), alone_(alone) {
    for (std::size_t i = 0; i < sequences.size(); ++i) order_.push_back(i);
  }

  template <class Next>
  void add(const std::string& name, Next next) {
    const auto full_name = fmt::format("{}, {}", model_.name, name);
    subject_.alive(full_name);
    const auto ran = run_mixed(recorder_, sequences_, order_, next);
    out_.add(full_name, ran ? first_problem(alone_, recorder_) : ran.error().text);
  }
  void reverse() { std::ranges::reverse(order_); }

 private:
  const subject& subject_;
  check::group& out_;
  const small_model& model_;
  recorder& recorder_;
  const std::vector<tokens>& sequences_;
  const std::vector<rows>& alone_;
  std::vector<std::size_t> order_;
};

void add_batches(batch_cases& cases) {
  for (const std::size_t chunk : {1, 2, 3, 7, 16})
    cases.add(fmt::format("chunks of {}", chunk), [=](std::size_t, std::size_t) { return chunk; });
  cases.add("one after another", [](std::size_t i, std::size_t step) { return step == i ? 1000u : 0u; });
  cases.add("all in one step", [](std::size_t, std::size_t) { return std::size_t{1000}; });
  cases.add("prompts beside single tokens", [](std::size_t i, std::size_t step) {
    return step < 3 * i ? 0u : step == 3 * i ? 5u : 1u;
  });
  cases.add("chunks of all sizes", [](std::size_t i, std::size_t step) { return (3 * i + 5 * step) % 7; });
  cases.reverse();
  cases.add("in the other order", [](std::size_t, std::size_t) { return std::size_t{4}; });
}

// What one model is run on in all groups.
struct bench {
  std::vector<tokens> sequences;
  std::optional<recorder> runner;
  std::vector<rows> alone;
};

result<bench> set_up(const subject& s, const small_model& m, std::uint32_t threads, bool plain) {
  bench b;
  s.alive(fmt::format("{}, each sequence alone, {} thread(s), {} operations", m.name, threads,
                      plain ? "plain" : "fast"));
  b.sequences = some_sequences(*m.program);
  auto r = recorder::open(s, m, threads, plain);
  if (!r) return fail(std::move(r.error()));
  b.runner.emplace(std::move(*r));
  auto alone = run_alone(*b.runner, b.sequences);
  if (!alone) return fail(std::move(alone.error()));
  b.alone = std::move(*alone);
  return b;
}

// Largest difference between two runs, relative to the largest logit of the first.
double relative_difference(const std::vector<rows>& a, const std::vector<rows>& b) {
  double largest = 0, difference = 0;
  for (std::size_t s = 0; s < a.size(); ++s)
    for (std::size_t i = 0; i < a[s].size(); ++i)
      for (std::size_t j = 0; j < a[s][i].size(); ++j) {
        const double x = a[s][i][j], y = b[s][i][j];
        if (!std::isfinite(x) || !std::isfinite(y)) return std::nan("");
        largest = std::max(largest, std::abs(x));
        difference = std::max(difference, std::abs(x - y));
      }
  return largest == 0 ? std::nan("") : difference / largest;
}

}  // namespace

check::group check_reference(const subject& s, const std::vector<small_model>& models) {
  check::group out("reference", tolerance);
  for (const auto& m : models) {
    s.progressed(out.name(), 0, 0);
    const auto fast = set_up(s, m, 2, false), plain = set_up(s, m, 2, true);
    if (!fast || !plain) {
      out.fail(m.name, fast ? plain.error().text : fast.error().text);
      continue;
    }
    const double difference = relative_difference(plain->alone, fast->alone);
    out.add(m.name,
            out.within(difference)
                ? ""
                : fmt::format(
                      "logits of fast and plain operations differ by {:.2e} of the largest (NaN: some are "
                      "no numbers, or all are zero)",
                      difference));
  }
  return out;
}

check::group check_batches(const subject& s, const std::vector<small_model>& models) {
  check::group out("batches");
  for (const auto& m : models) {
    s.progressed(out.name(), 0, 0);
    auto b = set_up(s, m, 2, false);
    if (!b) {
      out.fail(m.name, b.error().text);
      continue;
    }
    batch_cases cases(s, out, m, *b->runner, b->sequences, b->alone);
    add_batches(cases);
    const auto one = set_up(s, m, 1, false), four = set_up(s, m, 4, false);
    for (std::size_t i = 0; one && four && i < b->alone.size(); ++i) {
      out.add(fmt::format("{}, sequence {} on 1 thread", m.name, i), difference(b->alone[i], one->alone[i]));
      out.add(fmt::format("{}, sequence {} on 4 threads", m.name, i),
              difference(b->alone[i], four->alone[i]));
    }
  }
  return out;
}

check::group check_states(const subject& s, const std::vector<small_model>& models) {
  check::group out("states");
  for (const auto& m : models) {
    s.progressed(out.name(), 0, 0);
    auto b = set_up(s, m, 2, false);
    if (!b) {
      out.fail(m.name, b.error().text);
      continue;
    }
    // In the places that others have left as they were.
    s.alive(m.name + ", each sequence after others");
    const auto again = run_alone(*b->runner, b->sequences);
    for (std::size_t i = 0; i < b->alone.size(); ++i)
      out.add(fmt::format("{}, sequence {} after others", m.name, i),
              again ? difference(b->alone[i], (*again)[i]) : again.error().text);
    // Sequences that begin alike and go on differently, token by token side by side.
    batch_cases cases(s, out, m, *b->runner, b->sequences, b->alone);
    cases.add("side by side", [](std::size_t, std::size_t) { return std::size_t{1}; });
    cases.add("in turn", [](std::size_t i, std::size_t step) { return step % 4 == i ? std::size_t{2} : 0; });
  }
  return out;
}

}  // namespace troupe::conformance
