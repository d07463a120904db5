#include "sandbox/cell/sanitized.hpp"

#include <dlfcn.h>

#include <cstdlib>

namespace troupe::sandbox {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool built_with_one = true;
#else
constexpr bool built_with_one = false;
#endif

const bool is_there = built_with_one || ::dlsym(RTLD_DEFAULT, "__asan_init") != nullptr;

}  // namespace

bool sanitized() {
  return is_there;
}

std::vector<std::string> sanitizer_environment() {
  const char* preloaded = ::getenv("LD_PRELOAD");
  if (!is_there || built_with_one || preloaded == nullptr) return {};
  return {std::string("LD_PRELOAD=") + preloaded};
}

void on_sanitizer_report(void (*hear)(const char*)) {
  using function = void (*)(void (*)(const char*));
  if (void* set = ::dlsym(RTLD_DEFAULT, "__asan_set_error_report_callback"); set != nullptr)
    reinterpret_cast<function>(set)(hear);
}

void prepare_sanitizer() {
  if (!is_there) return;
  using function = void (*)(void*);
  if (void* notify = ::dlsym(RTLD_DEFAULT, "__sanitizer_sandbox_on_notify"); notify != nullptr)
    reinterpret_cast<function>(notify)(nullptr);
}

}  // namespace troupe::sandbox
