#include "cli/input.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "cli/output.hpp"

namespace troupe::cli {

result<std::string> read_all(const std::string& file) {
  if (file == "-") {
    std::string text, buffer(1 << 16, '\0');
    for (ssize_t n = 0; (n = ::read(STDIN_FILENO, buffer.data(), buffer.size())) > 0;)
      text.append(buffer, 0, static_cast<std::size_t>(n));
    return text;
  }
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail(error_code::not_found, "{}: cannot be read", file);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

result<std::string> argument_or_stdin(const std::vector<std::string>& words) {
  if (!words.empty() && !(words.size() == 1 && words[0] == "-"))
    return fmt::format("{}", fmt::join(words, " "));
  if (words.empty() && is_terminal(STDIN_FILENO))
    return fail(error_code::invalid_request,
                "nothing to read: give a text as an argument or on standard input");
  auto text = read_all("-");
  if (text && text->ends_with('\n')) text->pop_back();
  return text;
}

}  // namespace troupe::cli
