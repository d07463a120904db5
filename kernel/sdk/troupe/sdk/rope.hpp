// Rotary position embedding as config.json spells it. Published files write rope_theta at the root; transformers v5 writes it
// into rope_parameters.
#pragma once

#include <cstdint>
#include <string>
#include <troupe/sdk/config.hpp>

namespace troupe::sdk {

// head_dim: Dh. `theta`: what an absent rope_theta means for this architecture.
//   partial_rotary_factor   the leading part of each head that rotates
inline rope_options read_rope(const json& c, std::uint32_t head_dim, double theta = 10000) {
  const json* scaling = c.find("rope_scaling");
  if (scaling != nullptr && scaling->get_or<std::string>("rope_type", "") != "default")
    throw unsupported_error("rope_scaling: expected null, found " + scaling->describe());
  const json* parameters = c.find("rope_parameters");
  const json& from = parameters == nullptr ? c : *parameters;
  require(from, "rope_type", "default");
  const double part = above_zero(from, "partial_rotary_factor", above_zero(c, "partial_rotary_factor", 1));
  rope_options rope{.head_dim = head_dim};
  rope.rotary_dim = static_cast<std::uint32_t>(head_dim * part);
  rope.theta = above_zero(from, "rope_theta", theta);
  if (part > 1 || rope.rotary_dim == 0 || rope.rotary_dim % 2 != 0)
    throw config_error("partial_rotary_factor: expected an even part of the head size " +
                       std::to_string(head_dim) + ", found " + std::to_string(rope.rotary_dim));
  return rope;
}

}  // namespace troupe::sdk
