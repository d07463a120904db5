#include "ops/device/memory_plan.hpp"

#include <algorithm>
#include <numeric>

namespace troupe::ops {

std::size_t memory_plan::add(const tensor_life& tensor) {
  places_.push_back({tensor.logit_rows, tensor.width, tensor.last});
  return places_.size() - 1;
}

memory_plan memory_plan::separate(std::span<const tensor_life> tensors) {
  memory_plan plan;
  for (const auto& tensor : tensors) plan.place_of_.push_back(static_cast<std::uint32_t>(plan.add(tensor)));
  plan.starts_.resize(plan.places_.size());
  return plan;
}

memory_plan memory_plan::sharing(std::span<const tensor_life> tensors) {
  memory_plan plan;
  plan.place_of_.resize(tensors.size());
  std::vector<std::size_t> by_birth(tensors.size());
  std::iota(by_birth.begin(), by_birth.end(), 0);
  std::stable_sort(by_birth.begin(), by_birth.end(),
                   [&](auto a, auto b) { return tensors[a].first < tensors[b].first; });
  for (const std::size_t index : by_birth) {
    const auto& tensor = tensors[index];
    // Of the free places the one that fits with least waste; else the one that must grow least.
    std::size_t best = plan.places_.size();
    const auto cost = [&](std::size_t place) {
      const std::size_t width = plan.places_[place].width;
      return width >= tensor.width ? width - tensor.width : (std::size_t{1} << 32) + tensor.width - width;
    };
    for (std::size_t place = 0; place < plan.places_.size(); ++place) {
      const auto& candidate = plan.places_[place];
      if (candidate.logit_rows != tensor.logit_rows || candidate.free_after >= tensor.first) continue;
      if (best == plan.places_.size() || cost(place) < cost(best)) best = place;
    }
    if (best == plan.places_.size()) best = plan.add(tensor);
    auto& place = plan.places_[best];
    place.width = std::max(place.width, tensor.width);
    place.free_after = tensor.last;
    plan.place_of_[index] = static_cast<std::uint32_t>(best);
  }
  plan.starts_.resize(plan.places_.size());
  return plan;
}

std::size_t memory_plan::place(std::size_t tokens, std::size_t logit_rows, std::span<std::size_t> offsets) {
  std::size_t next = 0;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    starts_[i] = next;
    const std::size_t rows = places_[i].logit_rows ? logit_rows : tokens;
    next += (rows * places_[i].width + 15) / 16 * 16;
  }
  for (std::size_t i = 0; i < place_of_.size(); ++i) offsets[i] = starts_[place_of_[i]];
  return next;
}

}  // namespace troupe::ops
