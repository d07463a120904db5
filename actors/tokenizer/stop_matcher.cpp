#include <algorithm>

#include "actors/tokenizer/tokenizer.hpp"

namespace troupe::text {
namespace {

// Length of the longest proper beginning of `stop` that `text` ends with.
std::size_t begun(std::string_view text, std::string_view stop) {
  for (std::size_t n = std::min(stop.size() - 1, text.size()); n > 0; --n) {
    if (stop.starts_with(text.substr(text.size() - n))) return n;
  }
  return 0;
}

}  // namespace

stop_matcher::stop_matcher(std::vector<std::string> stops, bool include_stop_string)
    : stops_(std::move(stops)), include_(include_stop_string) {
  std::erase_if(stops_, [](const std::string& s) { return s.empty(); });
}

// The stop string that ends first wins, the longest of those that end together: so the outcome does not
// depend on how the text was cut into pieces.
stop_matcher::outcome stop_matcher::push(std::string_view piece) {
  held_.append(piece);
  const std::string* winner = nullptr;
  std::size_t winner_end = std::string::npos;
  for (const auto& stop : stops_) {
    const auto at = held_.find(stop);
    if (at == std::string::npos) continue;
    const std::size_t end = at + stop.size();
    if (winner == nullptr || end < winner_end || (end == winner_end && stop.size() > winner->size())) {
      winner = &stop;
      winner_end = end;
    }
  }
  if (winner != nullptr) {
    outcome out{held_.substr(0, include_ ? winner_end : winner_end - winner->size()), *winner};
    held_.clear();
    return out;
  }
  std::size_t keep = 0;
  for (const auto& stop : stops_) keep = std::max(keep, begun(held_, stop));
  outcome out{held_.substr(0, held_.size() - keep), std::nullopt};
  held_.erase(0, held_.size() - keep);
  return out;
}

std::string stop_matcher::finish() {
  return std::exchange(held_, {});
}

}  // namespace troupe::text
