// Part of builder.hpp: names in front of weights and ops.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <troupe/sdk/builder.hpp>
#include <utility>

namespace troupe::sdk {

// A name in front of weights and ops. Ends with its block; scopes end in the reverse of their order.
class builder::scoped {
 public:
  ~scoped() { builder_.scope_ = outer_; }
  scoped(const scoped&) = delete;
  scoped& operator=(const scoped&) = delete;

  // "model.layers.3" + "." + name
  std::string path(std::string_view name) const { return name_ + "." + std::string(name); }

  weight_ref weight(std::string_view name, const shape& dimensions,
                    const weight_options& options = {}) const {
    return builder_.weight(path(name), dimensions, options);
  }

  // Spellings with this scope in front of the names.
  // `reshaped`: the same numbers in other dimensions; empty = as stored.
  spelling stored(std::string_view name, const shape& reshaped = {}) const {
    return {program::Combine::single, {source{path(name), reshaped, -1, 0, 0, false}}};
  }
  // One part of a tensor that holds several: [begin, end) along axis.
  spelling part(std::string_view name, std::int32_t axis, std::uint64_t begin, std::uint64_t end) const {
    return {program::Combine::single, {source{path(name), {}, axis, begin, end, false}}};
  }
  // A tensor whose numbers are seen as another shape: [E·F, D] as [E, F, D].
  spelling reshaped(std::string_view name, const shape& dimensions) const {
    return {program::Combine::single, {source{path(name), dimensions, -1, 0, 0, false}}};
  }
  // The same with its last two dimensions swapped then: [E·F, D] as [E, F, D] and so [E, D, F]. Copied when bound.
  spelling reshaped_and_transposed(std::string_view name, const shape& dimensions) const {
    return {program::Combine::single, {source{path(name), dimensions, -1, 0, 0, true}}};
  }
  // One tensor per expert: "experts.*.w1.weight" for 0 to count - 1.
  spelling per_expert(std::string_view pattern, std::uint32_t count) const {
    const auto star = pattern.find('*');
    if (star == pattern.npos) builder_.fail("per_expert", "expected a * in " + std::string(pattern));
    if (count > builder::max_parts) builder_.fail("per_expert", "too many experts: " + std::to_string(count));
    spelling out{program::Combine::stack, {}};
    for (std::uint32_t e = 0; e < count; ++e)
      out.sources.push_back(
          {path(pattern.substr(0, star)) + std::to_string(e) + std::string(pattern.substr(star + 1)),
           {},
           -1,
           0,
           0,
           false});
    return out;
  }

 private:
  friend class builder;
  scoped(builder& b, std::string name) : builder_(b), outer_(b.scope_), name_(std::move(name)) {
    b.scope_ = name_;
  }
  builder& builder_;
  std::string outer_;
  std::string name_;
};

inline builder::scoped builder::scope(std::string_view name) {
  return scoped(*this, scope_.empty() ? std::string(name) : scope_ + "." + std::string(name));
}
inline builder::scoped builder::scope(std::string_view name, std::uint32_t index) {
  return scope(std::string(name) + "." + std::to_string(index));
}

}  // namespace troupe::sdk
