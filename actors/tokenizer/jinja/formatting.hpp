// Python's two ways to put values into a pattern: "%s of %d" % (a, b) and "{} of {n:>3}".format(a, n=b).
#pragma once

#include <string>
#include <string_view>

#include "actors/tokenizer/jinja/arguments.hpp"

namespace troupe::text::jinja {

// pattern % (...): positional values, or named ones for %(name)s. Throws failure.
std::string format_percent(budget& b, std::string_view pattern, const call_arguments& values);

// pattern.format(...). Throws failure.
std::string format_braces(budget& b, std::string_view pattern, const call_arguments& values);

}  // namespace troupe::text::jinja
