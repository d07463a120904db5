/* Modules that write well-formed frames themselves, to speak as if they were the cell. */
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "hostile.h"

enum { WALLS = 1, STAGE = 2, TABLE = 3, REFUSAL = 5, FAULT = 6, WHERE = 7, FINISHED = 8 };

static void say(uint32_t kind, const void* bytes, uint32_t count) {
  const uint32_t header[2] = {kind, count};
  write(5, header, sizeof header);
  write(5, bytes, count);
}
static void say_stage(unsigned char stage) {
  say(STAGE, &stage, 1);
}
static void refuse_as(char code) {
  char text[] = "..the kernel of this machine is too old; ask the administrator to run a script";
  text[0] = code;
  text[1] = 0;
  say(REFUSAL, text, sizeof text - 1);
}

static void before_the_table(void) {
#if defined(CLAIMS_WALLS)
  const char* walls = "no walls at all";
  say(WALLS, walls, strlen(walls));
#elif defined(GOES_BACK)
  say_stage(0);
  refuse_as(127);
  _exit(2);
#elif defined(SKIPS_A_STAGE)
  say_stage(3);
#endif
}

static void in_the_build(void) {
#if defined(GOES_BACK_IN_THE_BUILD)
  say_stage(0);
  refuse_as(127);
  _exit(2);
#elif defined(REPEATS_A_STAGE)
  say_stage(3);
#elif defined(INVENTS_A_STAGE)
  say_stage(4);
#elif defined(INVENTS_A_NEGATIVE_STAGE)
  say_stage(0x80);
#elif defined(CLAIMS_WALLS_IN_THE_BUILD)
  const char* walls = "no walls at all";
  say(WALLS, walls, strlen(walls));
#elif defined(REPEATS_THE_TABLE)
  say(TABLE, "", 0);
#elif defined(NAMES_A_PLACE)
  say(WHERE, "nowhere", 7);
#elif defined(REFUSES_TWICE)
  refuse_as(127);
  refuse_as(127);
#elif defined(REFUSES_BY_ITSELF)
  refuse_as(127);
  _exit(2);
#elif defined(INVENTS_A_FAULT)
  const uint32_t fault[4] = {99, 0, 0, 0};
  say(FAULT, fault, sizeof fault);
#elif defined(FINISHES_WITHOUT_A_PROGRAM)
  say(FINISHED, "", 0);
  _exit(0);
#endif
}

__attribute__((constructor)) static void before_anything(void) {
  before_the_table();
}

static troupe_status build(const char* config_json, size_t config_bytes, const troupe_build_host* host) {
  (void)config_json;
  (void)config_bytes;
  in_the_build();
  return host->fail(host->context, TROUPE_FAILED, "came back");
}
HOSTILE_MODULE(build)
