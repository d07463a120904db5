#include "actors/scheduler/version_watch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace troupe {

double recent_numbers::median() const {
  if (numbers_.empty()) return 0;
  auto sorted = numbers_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

void version_watch::replaced(const limits& allowed) {
  before_ = std::exchange(now_, {});
  allowed_ = allowed;
}

void version_watch::restored() {
  now_ = std::exchange(before_, {});
  allowed_ = {};
}

void version_watch::step(std::uint32_t tokens, std::uint64_t compute_ns) {
  if (tokens == 0 || compute_ns == 0) return;
  const auto size = std::min<std::size_t>(std::bit_width(tokens), now_.step_ns.size() - 1);
  now_.step_ns[size].add(static_cast<double>(compute_ns));
}

void version_watch::sampled(float logprob) {
  if (!std::isfinite(logprob)) return;
  now_.logprobs += logprob;
  ++now_.sampled;
}

double version_watch::step_ratio() const {
  double worst = 0;
  for (std::size_t size = 0; size < now_.step_ns.size(); ++size) {
    const recent_numbers &a = before_.step_ns[size], &b = now_.step_ns[size];
    if (a.count() < enough_steps || b.count() < enough_steps) continue;
    worst = std::max(worst, b.median() / a.median());
  }
  return worst;
}

std::optional<std::string> version_watch::alarm() const {
  if (const double ratio = step_ratio(); allowed_.step_ratio > 0 && ratio > allowed_.step_ratio)
    return fmt::format("its steps take {:.1f} times as long as those of the version before (allowed: {:.1f})",
                       ratio, allowed_.step_ratio);
  if (allowed_.logprob_drift > 0 && before_.sampled >= enough_tokens && now_.sampled >= enough_tokens &&
      std::abs(now_.mean() - before_.mean()) > allowed_.logprob_drift)
    return fmt::format(
        "the mean log-probability of its tokens is {:.2f}, that of the version before {:.2f} (allowed "
        "difference: {:.2f})",
        now_.mean(), before_.mean(), allowed_.logprob_drift);
  return std::nullopt;
}

void rate_meter::add(std::uint64_t events, std::uint64_t now_ns) {
  const std::uint64_t number = now_ns / slice_ns;
  slice& at = slices_[number % slices];
  if (at.number != number) at = {number, 0};
  at.events += events;
}

double rate_meter::per_second(std::uint64_t now_ns) const {
  const std::uint64_t number = now_ns / slice_ns;
  std::uint64_t events = 0;
  for (const slice& s : slices_)
    if (s.number <= number && s.number + slices > number) events += s.events;
  const std::uint64_t span_ns = (slices - 1) * slice_ns + now_ns % slice_ns;
  return static_cast<double>(events) * 1e9 / static_cast<double>(span_ns);
}

}  // namespace troupe
