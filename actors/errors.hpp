// A typed error on its way through the actor framework: an answer that is an error, or the reason why an
// actor ended.
#pragma once

#include <caf/atom.hpp>
#include <caf/error.hpp>
#include <caf/make_message.hpp>
#include <caf/message.hpp>
#include <cstdint>
#include <string>
#include <utility>

#include "kernel/base/result.hpp"

namespace troupe {

inline caf::error to_caf(const error& e) {
  return caf::error{static_cast<std::uint8_t>(e.code), caf::atom("troupe"), caf::make_message(e.text)};
}

// What is not ours becomes `unavailable` (the other actor is gone) with the framework's own words.
inline error from_caf(const caf::error& e, const std::string& framework_text) {
  if (e.category() != caf::atom("troupe")) return {error_code::unavailable, framework_text};
  std::string text;
  if (e.context().match_elements<std::string>()) text = e.context().get_as<std::string>(0);
  return {static_cast<error_code>(e.code()), std::move(text)};
}

}  // namespace troupe
