#include "sandbox/cell/sanitized.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#include <sanitizer/common_interface_defs.h>
#endif

// Signals are the cell's; what a runtime would do at the end of the process needs rights that are gone by then.
extern "C" {
const char* __asan_default_options();
const char* __asan_default_options() {
  return "detect_leaks=0:symbolize=0:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigfpe=0:handle_"
         "sigill=0:"
         "use_sigaltstack=0:allocator_may_return_null=1";
}
const char* __tsan_default_options();
const char* __tsan_default_options() {
  return "symbolize=0:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigfpe=0:handle_sigill=0:use_"
         "sigaltstack=0:"
         "allocator_may_return_null=1:report_signal_unsafe=0";
}
}

namespace troupe::sandbox {

void prepare_sanitizer() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  __sanitizer_sandbox_on_notify(nullptr);
#endif
}

}  // namespace troupe::sandbox
