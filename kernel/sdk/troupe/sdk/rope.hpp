// Rotary position embedding as config.json spells it, with the ways in which published models stretch it to longer contexts.
// Published files write rope_theta at the root and the rest into rope_scaling; transformers v5 writes all of it into
// rope_parameters, which is taken if it is there.
//
// Scaled embeddings become frequencies in the Program, so that a backend needs to know no family:
//   f_j = theta^(-2j / rotary) radians per position, wavelength w_j = 2π / f_j positions, L = original_max_position_embeddings
//   linear    f_j / factor
//   llama3    f_j where w_j < L / high_freq_factor, f_j / factor where w_j > L / low_freq_factor, and between the two the
//             mean of both, weighted by (L / w_j - low_freq_factor) / (high_freq_factor - low_freq_factor)
//   yarn      (arXiv 2309.00071) pairs that turn more than beta_fast times in L positions keep f_j, those that turn less
//             than beta_slow times get f_j / factor, between them a ramp over j; cosines and sines are multiplied by
//             attention_factor, or 0.1 ln(factor) + 1, or with mscale and mscale_all_dim the quotient of
//             0.1 mscale ln(factor) + 1 by the same of mscale_all_dim
// Not built: dynamic and longrope, whose frequencies change with a sequence's length.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <troupe/sdk/config.hpp>
#include <vector>

namespace troupe::sdk {

namespace rope_scaling {

inline constexpr double two_pi = 6.283185307179586;

// In f32, as the models were trained.
inline std::vector<float> plain(const rope_options& rope) {
  std::vector<float> out(rope.rotary_dim / 2);
  for (std::size_t j = 0; j < out.size(); ++j)
    out[j] = 1 / std::pow(static_cast<float>(rope.theta),
                          static_cast<float>(2 * j) / static_cast<float>(rope.rotary_dim));
  return out;
}

inline double factor(const json& s) {
  if (s.find("factor") == nullptr) throw config_error(s.path_of("factor") + ": the key is missing");
  return above_zero(s, "factor", 1);
}

inline void linear(rope_options& rope, const json& s) {
  rope.frequencies = plain(rope);
  for (float& f : rope.frequencies) f /= static_cast<float>(factor(s));
}

inline void llama3(rope_options& rope, const json& s) {
  const auto divisor = static_cast<float>(factor(s));
  const auto low = static_cast<float>(s.get<double>("low_freq_factor"));
  const auto high = static_cast<float>(s.get<double>("high_freq_factor"));
  const auto length = static_cast<float>(positive(s, "original_max_position_embeddings"));
  if (!(low > 0)) s.find("low_freq_factor")->wrong("a number above 0");
  if (!(high > low)) s.find("high_freq_factor")->wrong("a number above low_freq_factor");
  rope.frequencies = plain(rope);
  for (float& f : rope.frequencies) {
    const float wavelength = static_cast<float>(two_pi) / f;
    if (wavelength < length / high) continue;
    const float share = wavelength > length / low ? 0 : (length / wavelength - low) / (high - low);
    f = (1 - share) * f / divisor + share * f;
  }
}

// 0.1 · m · ln(factor) + 1
inline double magnitude(double factor, double m) {
  return factor <= 1 ? 1 : 0.1 * m * std::log(factor) + 1;
}

// The pair, as a fraction, that turns `turns` times in `length` positions.
inline double pair_that_turns(double turns, const rope_options& rope, double length) {
  return rope.rotary_dim * std::log(length / (turns * two_pi)) / (2 * std::log(rope.theta));
}

inline void yarn(rope_options& rope, const json& s, const json& c) {
  const double divisor = factor(s);
  const double length = s.find("original_max_position_embeddings")
                            ? positive(s, "original_max_position_embeddings")
                            : positive(c, "max_position_embeddings");
  double first = pair_that_turns(above_zero(s, "beta_fast", 32), rope, length);
  double last = pair_that_turns(above_zero(s, "beta_slow", 1), rope, length);
  if (s.get_or<bool>("truncate", true)) first = std::floor(first), last = std::ceil(last);
  first = std::max(first, 0.0), last = std::min(last, rope.rotary_dim - 1.0);
  if (first == last) last += 0.001;
  rope.frequencies = plain(rope);
  for (std::size_t j = 0; j < rope.frequencies.size(); ++j) {
    const auto ramp =
        static_cast<float>(std::clamp((static_cast<double>(j) - first) / (last - first), 0.0, 1.0));
    const float f = rope.frequencies[j];
    rope.frequencies[j] = f / static_cast<float>(divisor) * ramp + f * (1 - ramp);
  }
  const double mscale = s.get_or<double>("mscale", 0), of_all = s.get_or<double>("mscale_all_dim", 0);
  const double usual = mscale != 0 && of_all != 0 ? magnitude(divisor, mscale) / magnitude(divisor, of_all)
                                                  : magnitude(divisor, 1);
  rope.amplitude = static_cast<float>(above_zero(s, "attention_factor", usual));
}

inline void apply(rope_options& rope, const json& s, const json& c) {
  const char* key = s.find("rope_type") ? "rope_type" : "type";  // `type` in early files
  const auto type = s.get_or<std::string>(key, "default");
  if (type == "linear") return linear(rope, s);
  if (type == "llama3") return llama3(rope, s);
  if (type == "yarn") return yarn(rope, s, c);
  if (type != "default")
    throw unsupported_error(s.path_of(key) + ": expected default, linear, llama3 or yarn, found \"" + type +
                            "\"");
}

}  // namespace rope_scaling

// `head_dim`: Dh. `theta`: what an absent rope_theta means for this architecture. partial_rotary_factor is the leading part of
// each head that rotates.
inline rope_options read_rope(const json& c, std::uint32_t head_dim, double theta = 10000) {
  const json* parameters = c.find("rope_parameters");
  const json& from = parameters == nullptr ? c : *parameters;
  const double part = above_zero(from, "partial_rotary_factor", above_zero(c, "partial_rotary_factor", 1));
  rope_options rope{.head_dim = head_dim};
  rope.rotary_dim = static_cast<std::uint32_t>(head_dim * std::min(part, 2.0));
  rope.theta = above_zero(from, "rope_theta", above_zero(c, "rope_theta", theta));
  if (part == 1 && head_dim % 2 != 0)
    throw config_error("head_dim: expected an even number, found " + std::to_string(head_dim));
  if (part > 1 || rope.rotary_dim == 0 || rope.rotary_dim % 2 != 0)
    throw config_error(from.path_of("partial_rotary_factor") + ": expected an even part of the head size " +
                       std::to_string(head_dim) + ", found " + std::to_string(rope.rotary_dim));
  const json* scaling = parameters != nullptr ? parameters : c.find("rope_scaling");
  if (scaling == nullptr) return rope;
  if (scaling->type() != json::kind::object) scaling->wrong("an object");
  for (const auto& [name, value] : scaling->members())
    if (value.type() == json::kind::object)
      throw unsupported_error(value.path() + ": expected one set of parameters for all layers, found " +
                              value.describe());
  rope_scaling::apply(rope, *scaling, c);
  return rope;
}

}  // namespace troupe::sdk
