/* A module that does not let itself be opened in any time. */
__attribute__((constructor)) static void at_start(void) {
  for (volatile unsigned i = 0;; ++i) {
  }
}
