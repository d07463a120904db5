#include "kernel/program/op_attributes.hpp"

#include <fmt/format.h>

#include <bit>

#include "kernel/program/names.hpp"

namespace troupe::program {

namespace {

std::uint64_t number(std::uint32_t value) {
  return value;
}

std::vector<attribute> of(const NormAttrs& a) {
  std::vector<attribute> all{{"eps", a.eps()}};
  if (a.group() != 0) all.push_back({"group", number(a.group())});
  return all;
}

std::vector<attribute> of(const RopeAttrs& a) {
  std::vector<attribute> all{{"head_dim", number(a.head_dim())},
                             {"rotary_dim", number(a.rotary_dim())},
                             {"theta", a.theta()},
                             {"layout", name_of(a.layout())}};
  if (a.frequencies() != nullptr) all.push_back({"frequencies", values(a.frequencies())});
  if (a.amplitude() != 1) all.push_back({"amplitude", a.amplitude()});
  return all;
}

std::vector<attribute> of(const AttentionAttrs& a) {
  std::vector<attribute> all{{"heads", number(a.heads())},
                             {"kv_heads", number(a.kv_heads())},
                             {"head_dim", number(a.head_dim())},
                             {"scale", a.scale()},
                             {"cache_layer", number(a.cache_layer()), true}};
  if (a.soft_cap() != 0) all.push_back({"soft_cap", a.soft_cap()});
  return all;
}

std::vector<attribute> of(const RouterAttrs& a) {
  std::vector<attribute> all{{"experts", number(a.experts())},
                             {"top_k", number(a.top_k())},
                             {"score", name_of(a.score())},
                             {"norm", name_of(a.norm())}};
  if (a.norm_power() != 1) all.push_back({"norm_power", a.norm_power()});
  if (a.scale() != 1) all.push_back({"scale", a.scale()});
  return all;
}

template <class T>
std::string plain_text(const T& value) {
  return fmt::format("{}", value);
}

std::string plain_text(const std::vector<float>& list) {
  if (list.empty()) return "none";
  std::uint32_t sum = 2166136261u;  // FNV-1a over the bits
  for (const float value : list) sum = (sum ^ std::bit_cast<std::uint32_t>(value)) * 16777619u;
  return fmt::format("{} from {:.2g} to {:.2g}, #{:08x}", list.size(), list.front(), list.back(), sum);
}

}  // namespace

std::vector<attribute> attributes_of(const Op& op) {
  if (op.attrs() == nullptr) return {};
  switch (op.attrs_type()) {
    case OpAttrs::NormAttrs:
      return of(*op.attrs_as_NormAttrs());
    case OpAttrs::RopeAttrs:
      return of(*op.attrs_as_RopeAttrs());
    case OpAttrs::AttentionAttrs:
      return of(*op.attrs_as_AttentionAttrs());
    case OpAttrs::RouterAttrs:
      return of(*op.attrs_as_RouterAttrs());
    case OpAttrs::ExpertsAttrs:
      return {{"activation", name_of(op.attrs_as_ExpertsAttrs()->activation())}};
    case OpAttrs::ClampAttrs:
      return {{"min", op.attrs_as_ClampAttrs()->min()}, {"max", op.attrs_as_ClampAttrs()->max()}};
    case OpAttrs::ActivationAttrs:
      return {{"activation", name_of(op.attrs_as_ActivationAttrs()->activation())}};
    case OpAttrs::NativeAttrs:  // lists of its own, which the printers show
    case OpAttrs::NONE:
      break;
  }
  return {};
}

std::string text_of(const attribute_value& value) {
  return std::visit([](const auto& v) { return plain_text(v); }, value);
}

}  // namespace troupe::program
