/* A module that is right, or wrong in the one way that the build defines. */
#include <stddef.h>
#include <troupe/module.h>

static troupe_status build(const char* config_json, size_t config_bytes, const troupe_build_host* host) {
  static const uint8_t garbage[64] = {1, 2, 3};
  (void)config_json;
  (void)config_bytes;
#if defined(EMITS_TWICE)
  host->emit(host->context, garbage, sizeof garbage);
  return host->emit(host->context, garbage, sizeof garbage);
#elif defined(EMITS_NULL)
  return host->emit(host->context, NULL, 0);
#elif defined(EMITS_GARBAGE)
  return host->emit(host->context, garbage, sizeof garbage);
#elif defined(FAILS_SILENTLY)
  return TROUPE_FAILED;
#elif defined(UNKNOWN_STATUS)
  return host->fail(host->context, 77, "something new");
#elif defined(FAILS_BUT_SAYS_OK)
  host->fail(host->context, TROUPE_BAD_CONFIG, "some_key: wrong");
  return TROUPE_OK;
#elif defined(UNSUPPORTED)
  return host->fail(host->context, TROUPE_UNSUPPORTED, "some_key: not built here");
#else
  (void)garbage;
  (void)host;
  return TROUPE_OK; /* emits nothing */
#endif
}

const troupe_module* troupe_module_entry(void) {
  static const char* const architectures[] = {"TableForCausalLM", NULL};
  static troupe_module module = {sizeof(troupe_module),
                                 TROUPE_ABI_MAJOR,
                                 TROUPE_ABI_MINOR,
                                 "table",
                                 "1.0.0",
                                 "For tests",
                                 architectures,
                                 build};
#if defined(WRONG_MAJOR)
  module.abi_major = 99;
#elif defined(NEWER_MINOR)
  module.abi_minor = 99;
  module.struct_size = sizeof(troupe_module) + 64;
#elif defined(SMALL_TABLE)
  module.struct_size = 16;
#elif defined(NULL_TABLE)
  return NULL;
#elif defined(NO_NAME)
  module.name = NULL;
#elif defined(NO_VERSION)
  module.version = "";
#elif defined(NO_SUMMARY)
  module.summary = NULL;
#elif defined(NO_ARCHITECTURES)
  module.architectures = architectures + 1;
#elif defined(NO_BUILD)
  module.build = NULL;
#endif
  return &module;
}
