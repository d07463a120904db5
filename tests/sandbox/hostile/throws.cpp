// Exceptions must not cross the interface; these do, from every function that can be called.
#include <troupe/module.h>

#include <stdexcept>

namespace {

const char* const architectures[] = {"HostileForCausalLM", nullptr};

troupe_status build(const char*, std::size_t, const troupe_build_host*) {
  throw std::runtime_error("thrown in the build");
}

const troupe_module module = {sizeof(troupe_module), TROUPE_ABI_MAJOR, 0,    "hostile", "6.6.6",
                              "For tests",           architectures,    build};

}  // namespace

const troupe_module* troupe_module_entry() {
#if defined(ENTRY_THROWS)
  throw 7;
#endif
  return &module;
}
