// A checkpoint's own chat template: the subset of Jinja that published templates use, run in a sandbox
// (no includes, no imports, no attribute access beyond plain data, bounded loops and output).
#pragma once

#include <boost/json/value.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "kernel/base/result.hpp"

namespace troupe::text {

struct template_limits {
  std::size_t output_bytes = std::size_t{16} << 20;
  std::size_t steps = 5'000'000;  // statements and expressions evaluated
  std::size_t depth = 200;        // nesting of expressions, blocks and macros
};

// Immutable after parse; any thread.
class chat_template {
 public:
  // Error: bad_checkpoint with line and what was expected.
  static result<chat_template> parse(std::string_view source);

  // `variables` is a JSON object: messages, add_generation_prompt, bos_token, eos_token, tools, ...
  // Error: template_failed: raise_exception's text, or what went wrong and in which line.
  result<std::string> render(const boost::json::object& variables, const template_limits& limits = {}) const;

 private:
  struct impl;
  std::shared_ptr<const impl> impl_;
};

}  // namespace troupe::text
