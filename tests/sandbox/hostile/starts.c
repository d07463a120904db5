/* What a library may try before anybody has called it: static initialisers run while it is opened. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "hostile.h"

static volatile uintptr_t nowhere = 8;

static NOT_INLINE void at_start(void) {
#if defined(START_CRASHES)
  *(volatile int*)nowhere = 1;
#elif defined(START_EXITS)
  exit(0);
#elif defined(START_CONNECTS)
  socket(AF_INET, SOCK_STREAM, 0);
#elif defined(START_READS)
  open("/etc/passwd", O_RDONLY);
#elif defined(START_LOOPS)
  while (nowhere) {
  }
#endif
}

__attribute__((constructor)) static void before_anything(void) {
  at_start();
  nowhere = 8;
}

static troupe_status build(const char* config_json, size_t config_bytes, const troupe_build_host* host) {
  (void)config_json;
  (void)config_bytes;
  return host->fail(host->context, TROUPE_FAILED, "never asked");
}
HOSTILE_MODULE(build)
