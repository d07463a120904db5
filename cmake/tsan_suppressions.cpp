// Part of every program that is built for the thread sanitizer. The packaged libzmq is not instrumented: what its threads hand to each
// other through its lock-free queues looks like a race. Only reports with libzmq itself in a stack are left out. A command that a third
// Ctrl-C ends leaves its threads behind, on purpose.
#ifdef __SANITIZE_THREAD__
extern "C" const char* __tsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "race:libzmq.so\nthread:cli/generate.cpp\n";
}
#endif
