// Template source to tokens, with the white-space rules that chat templates are written for: trim_blocks and
// lstrip_blocks are on, one newline at the end of the source is dropped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace troupe::text::jinja {

enum class token_kind {
  data,            // text between tags
  block_begin,     // {%
  block_end,       // %}
  variable_begin,  // {{
  variable_end,    // }}
  name,
  string,  // its value, escapes resolved
  whole,   // its digits, without underscores and in base 10
  real,
  op,  // one of ( ) [ ] { } . , : ; | = == != < <= > >= + - * / // % ** ~
  end
};

struct token {
  token_kind kind = token_kind::end;
  std::string text;
  int line = 1;
};

// Throws failure with the line. The last token is `end`.
std::vector<token> tokenize(std::string_view source);

// For messages: "'%}'", "name 'x'", "end of template".
std::string describe(const token& t);

}  // namespace troupe::text::jinja
