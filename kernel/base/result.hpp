// What a function answers that can fail in ways its caller must tell apart: a value, or a typed error.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "troupe/schemas/common_generated.h"

namespace troupe {

using error_code = wire::ErrorCode;

// `text` is for people: what was expected, what was found, and what to do; it names the file, key or field.
struct error {
  error_code code = error_code::internal;
  std::string text;
};

template <class T>
using result = tl::expected<T, error>;

// return fail(error_code::bad_config, "{}: no such key", key);
template <class... Args>
[[nodiscard]] tl::unexpected<error> fail(error_code code, fmt::format_string<Args...> text, Args&&... args) {
  return tl::unexpected<error>(error{code, fmt::format(text, std::forward<Args>(args)...)});
}

// Passes an error on unchanged.
[[nodiscard]] inline tl::unexpected<error> fail(error e) {
  return tl::unexpected<error>(std::move(e));
}

}  // namespace troupe
