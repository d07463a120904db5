/* A library that a module should not need. */
int from_a_library(void);
int from_a_library(void) {
  return 1;
}
