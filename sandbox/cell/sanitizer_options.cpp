// What a sanitizer's runtime asks the cell for when it starts.

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
