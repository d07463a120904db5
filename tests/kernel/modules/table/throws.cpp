// Breaks the rule that no exception crosses the interface.
#include <troupe/module.h>

#include <stdexcept>

static troupe_status build(const char*, size_t bytes, const troupe_build_host*) {
  if (bytes == 0) throw 7;
  throw std::runtime_error("thrown in the module");
}

extern "C" TROUPE_EXPORT const troupe_module* troupe_module_entry(void) {
  static const char* const architectures[] = {"ThrowsForCausalLM", nullptr};
  static const troupe_module module = {sizeof(troupe_module),
                                       TROUPE_ABI_MAJOR,
                                       TROUPE_ABI_MINOR,
                                       "throws",
                                       "1.0.0",
                                       "For tests",
                                       architectures,
                                       build,
                                       nullptr};
  return &module;
}
