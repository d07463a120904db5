/* A module that is right but for what the build defines. */
#include <stddef.h>
#include <stdio.h>
#include <troupe/module.h>

#if defined(NEEDS_A_LIBRARY)
int from_a_library(void);
#endif

static troupe_status build(const char* config_json, size_t config_bytes, const troupe_build_host* host) {
  (void)config_json;
  (void)config_bytes;
#if defined(TALKS)
  printf("to stdout\n");
  fprintf(stderr, "to stderr\x1b[31m\n");
  fflush(stdout);
#endif
#if defined(NEEDS_A_LIBRARY)
  return host->fail(host->context, from_a_library(), "key: as it should");
#else
  return host->fail(host->context, TROUPE_BAD_CONFIG, "key: as it should");
#endif
}

const troupe_module* troupe_module_entry(void) {
  static const char* const architectures[] = {"CellForCausalLM", NULL};
  static const troupe_module module = {
    sizeof(troupe_module),
    TROUPE_ABI_MAJOR,
    0,
#if defined(HAS_AN_UGLY_NAME)
    "ugly\x1b[31m\n\xff",
#else
    "cell",
#endif
    "1.0.0",
    "For tests",
    architectures,
    build
  };
  return &module;
}
