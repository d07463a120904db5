/* Builds that do not return, or return nonsense. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"

static volatile uintptr_t nowhere = 8;
static volatile int zero = 0;

static NOT_INLINE int deeper(volatile char* above) {
  volatile char here[4096];
  here[0] = above[0];
  return deeper(here) + here[0];
}

static NOT_INLINE void allocate_all(void) {
  for (;;) {
    char* more = malloc(1 << 20);
    memset(more, 1, 1 << 20);
  }
}

static NOT_INLINE void do_harm(void) {
#if defined(SEGFAULTS)
  *(volatile int*)nowhere = 1;
#elif defined(DIVIDES_BY_ZERO)
  zero = 100 / zero;
#elif defined(ABORTS)
  abort();
#elif defined(FREES_TWICE)
  char* volatile p = malloc(100);
  free(p);
  free(p);
#elif defined(EXITS_0)
  exit(0);
#elif defined(EXITS_3_AT_ONCE)
  _exit(3);
#elif defined(OVERFLOWS_ITS_STACK)
  char start = 1;
  zero = deeper(&start);
#elif defined(LOOPS)
  while (!zero) {
  }
#elif defined(SLEEPS)
  struct timespec day = {86400, 0};
  nanosleep(&day, NULL);
#elif defined(HIDES_AND_LOOPS)
  for (int i = 0; i < 64; ++i) close(i);
  while (!zero) sleep(1);
#elif defined(ALLOCATES_50_GB)
  char* volatile p = malloc((size_t)50 << 30);
  p[0] = 1;
#elif defined(ALLOCATES_ALL)
  allocate_all();
#elif defined(FLOODS_ITS_OUTPUT)
  static char page[1 << 16];
  memset(page, 'x', sizeof page);
  for (;;) write(1, page, sizeof page);
#elif defined(MEDDLES_WITH_THE_ANSWER)
  static const char noise[4096] = "noise on every descriptor";
  for (int i = 0; i < 64; ++i) write(i, noise, sizeof noise);
#elif defined(FORGES_AN_ANSWER)
  static const uint32_t huge_program[2] = {4, 0xffffffff};
  for (int i = 3; i < 64; ++i) write(i, huge_program, sizeof huge_program);
  _exit(0);
#endif
  (void)allocate_all;
  (void)deeper;
}

static troupe_status build(const char* config_json, size_t config_bytes, const troupe_build_host* host) {
  (void)config_json;
  (void)config_bytes;
  do_harm();
  nowhere = 8;
  return host->fail(host->context, TROUPE_FAILED, "came back");
}
HOSTILE_MODULE(build)
