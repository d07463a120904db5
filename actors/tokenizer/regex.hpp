// Regular expressions of tokenizer.json: Oniguruma's Ruby syntax as published, run by PCRE2 with Unicode
// properties.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::text {

struct span_match {
  std::size_t begin = 0;  // byte offsets
  std::size_t end = 0;
};

// Immutable after compile; any thread.
class regex {
 public:
  // Error: bad_checkpoint with the pattern, the place and the reason.
  static result<regex> compile(std::string_view pattern);

  // All matches from left to right, not overlapping; may hold empty ones. `text` must be valid UTF-8.
  // Throws cannot_tokenize if the search exceeds PCRE2's limits: a pattern that goes through all ways to cut the text.
  std::vector<span_match> find_all(std::string_view text) const;

 private:
  std::shared_ptr<const void> code_;  // pcre2_code
};

// Every match of a plain string, from left to right.
std::vector<span_match> find_all(std::string_view text, std::string_view pattern);

// Rewrites what PCRE2 reads differently from Oniguruma: \s \S \w \W \h \H. Error: bad_checkpoint for nested
// or intersected character classes, which PCRE2 does not have.
result<std::string> to_pcre(std::string_view pattern);

}  // namespace troupe::text
