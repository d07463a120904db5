#include "cli/sanitizer_runtime.hpp"

#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <vector>

#include "kernel/base/argument_pointers.hpp"
#include "sandbox/cell/sanitized.hpp"

namespace troupe::cli {
namespace {

// The name stands in the table of libraries that a shared library needs. Empty = it does not.
result<std::string> runtime_of(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail(error_code::not_found, "{}: no such file, or not readable", file);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  constexpr std::string_view wanted = "libasan.so.";
  const auto at = bytes.find(wanted);
  if (at == std::string::npos) return std::string();
  auto end = at + wanted.size();
  while (end < bytes.size() && std::isdigit(static_cast<unsigned char>(bytes[end])) != 0) ++end;
  return bytes.substr(at, end - at);
}

std::vector<std::string> own_arguments() {
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(in, word, '\0');) words.push_back(word);
  return words;
}

void put_in_front(const char* variable, const std::string& value, char separator) {
  const char* old = ::getenv(variable);
  ::setenv(variable, (old == nullptr ? value : value + separator + old).c_str(), 1);
}

}  // namespace

result<void> restart_with_address_sanitizer(const std::string& file) {
  if (sandbox::sanitized()) return {};
  const auto runtime = runtime_of(file);
  if (!runtime) return fail(runtime.error());
  if (runtime->empty())
    return fail(error_code::bad_module, "{}: expected a module that is built with -fsanitize=address", file);
  const char* preloaded = ::getenv("LD_PRELOAD");
  if (preloaded != nullptr && std::string_view(preloaded).find(*runtime) != std::string_view::npos)
    return fail(
        error_code::bad_module,
        "{}: was built with the address sanitizer, whose runtime {} is not on this machine; install the "
        "compiler that built it",
        file, *runtime);
  put_in_front("LD_PRELOAD", *runtime, ':');
  put_in_front("ASAN_OPTIONS", "detect_leaks=0", ':');
  auto words = own_arguments();
  ::execv("/proc/self/exe", argument_pointers(words).data());
  return fail(error_code::internal, "{}: this command cannot be started anew with {}: {}", file, *runtime,
              std::generic_category().message(errno));
}

}  // namespace troupe::cli
