#include "ops/device/room.hpp"

#include <fmt/ranges.h>

#include <vector>

#include "kernel/base/text.hpp"

namespace troupe::ops {
namespace {

constexpr std::uint64_t MiB = std::uint64_t{1} << 20;

// How much may stay of `now` when all is `over` too much, in whole `unit`s; 0 = nothing.
std::uint64_t left_of(std::uint64_t now, std::uint64_t over, std::uint64_t unit) {
  return over < now ? (now - over) / unit * unit : 0;
}

std::string cache_advice(std::uint64_t bytes, const room_choices& c) {
  return fmt::format("cache.memory = \"{}MiB\" (context of {} tokens in all)", bytes / MiB,
                     bytes / c.token_bytes);
}

std::vector<std::string> single_changes(const room_plan& p, const room_choices& c) {
  const std::uint64_t over = p.total() - p.device;
  std::vector<std::string> out;
  if (c.token_bytes > 0)
    if (const auto bytes = left_of(p.cache, over, MiB); bytes >= c.token_bytes)
      out.push_back(cache_advice(bytes, c));
  if (c.int8_weights > 0 && p.weights - c.int8_weights >= over)
    out.push_back(fmt::format("device.weights = \"int8\" (weights {})", human_bytes(c.int8_weights)));
  if (c.sequence_bytes > 0)
    if (const auto sequences =
            left_of(c.sequences * c.sequence_bytes, over, c.sequence_bytes) / c.sequence_bytes;
        sequences > 0)
      out.push_back(fmt::format("scheduler.max_sequences = {}", sequences));
  return out;
}

// As int8, with a smaller cache.
std::string both_changes(const room_plan& p, const room_choices& c) {
  if (c.int8_weights == 0 || c.token_bytes == 0) return {};
  const std::uint64_t over = p.total() - p.device - (p.weights - c.int8_weights);
  const auto bytes = left_of(p.cache, over, MiB);
  if (bytes < c.token_bytes) return {};
  return "device.weights = \"int8\" with " + cache_advice(bytes, c);
}

}  // namespace

std::string plan_text(const room_plan& p) {
  return fmt::format("weights {}, cache {}, states {}, activations {}, graphs {}, reserve {}: {} of {}",
                     human_bytes(p.weights), human_bytes(p.cache), human_bytes(p.states),
                     human_bytes(p.activations), human_bytes(p.graphs), human_bytes(p.reserve),
                     human_bytes(p.total()), human_bytes(p.device));
}

result<void> check_room(std::string_view model, const room_plan& plan, const room_choices& choices) {
  if (plan.fits()) return {};
  auto advice = fmt::format("{}", fmt::join(single_changes(plan, choices), ", or "));
  if (advice.empty()) advice = both_changes(plan, choices);
  advice = advice.empty() ? "it needs a device with more memory" : "it fits with " + advice;
  return fail(error_code::bad_config, "{}: {} more than the device has ({}); {}", model,
              human_bytes(plan.total() - plan.device), plan_text(plan), advice);
}

}  // namespace troupe::ops
