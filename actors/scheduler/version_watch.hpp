// How one version of a model's Program does beside the one before it: how long its steps take and how sure it is of its tokens. Plain
// class; time is passed in.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

// The latest numbers of some kind.
class recent_numbers {
 public:
  static constexpr std::size_t kept = 64;

  void add(double x) {
    if (numbers_.size() < kept)
      numbers_.push_back(x);
    else
      numbers_[next_] = x;
    next_ = (next_ + 1) % kept;
  }
  std::size_t count() const { return numbers_.size(); }
  double median() const;  // 0 if there is none

 private:
  std::vector<double> numbers_;
  std::size_t next_ = 0;
};

class version_watch {
 public:
  struct limits {
    double step_ratio = 0;     // steps that take so many times as long are an alarm; 0 = never
    double logprob_drift = 0;  // a mean log-probability that differs by more is one, in nats; 0 = never
  };
  static constexpr std::size_t enough_steps = 16;     // of one size, of both versions
  static constexpr std::uint64_t enough_tokens = 64;  // of both versions

  // Another version runs from here on. What was seen of the one before stays, to compare.
  void replaced(const limits& allowed);
  // The one before runs again.
  void restored();

  void step(std::uint32_t tokens, std::uint64_t compute_ns);
  void sampled(float logprob);  // natural

  // The largest of the ratios of medians, among steps of like size; 0 = too little was seen.
  double step_ratio() const;
  double logprob_before() const { return before_.mean(); }
  double logprob_after() const { return now_.mean(); }

  // In words; nothing: no reason for one.
  std::optional<std::string> alarm() const;

 private:
  struct profile {
    std::array<recent_numbers, 24> step_ns;  // by the number of bits of the step's tokens
    double logprobs = 0;
    std::uint64_t sampled = 0;
    double mean() const { return sampled == 0 ? 0 : logprobs / static_cast<double>(sampled); }
  };
  profile before_, now_;
  limits allowed_;
};

// Events per second, of the last second or so.
class rate_meter {
 public:
  void add(std::uint64_t events, std::uint64_t now_ns);
  double per_second(std::uint64_t now_ns) const;

 private:
  static constexpr std::uint64_t slice_ns = 250'000'000;
  static constexpr std::size_t slices = 5;  // the one that is being filled and a second behind it
  struct slice {
    std::uint64_t number = 0;
    std::uint64_t events = 0;
  };
  std::array<slice, slices> slices_;
};

}  // namespace troupe
