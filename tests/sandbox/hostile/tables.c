/* Tables that are wrong in ways that only reading them shows. */
#include <stdint.h>

#include "hostile.h"

static troupe_status build(const char* config_json, size_t config_bytes, const troupe_build_host* host) {
  (void)config_json;
  (void)config_bytes;
  return host->fail(host->context, TROUPE_FAILED, "never asked");
}

const troupe_module* troupe_module_entry(void) {
  static const char* endless[4096];
  static troupe_module module = {sizeof(troupe_module), TROUPE_ABI_MAJOR,      0,    "hostile", "6.6.6",
                                 "For tests",           hostile_architectures, build};
  for (size_t i = 0; i < sizeof endless / sizeof *endless; ++i) endless[i] = "EndlessForCausalLM";
#if defined(NULL_TABLE)
  return NULL;
#elif defined(SMALL_TABLE)
  module.struct_size = 12;
#elif defined(OTHER_MAJOR)
  module.abi_major = 2;
#elif defined(NULL_BUILD)
  module.build = NULL;
#elif defined(ENDLESS_ARCHITECTURES)
  module.architectures = endless;
#elif defined(WILD_NAME)
  module.name = (const char*)(uintptr_t)0xdead0000;
#elif defined(WILD_TABLE)
  return (const troupe_module*)(uintptr_t)16;
#endif
  return &module;
}
