/* The header alone, as strict C11. */
#include <troupe/module.h>

_Static_assert(sizeof(troupe_status) == 4, "a status has 32 bits");
_Static_assert(offsetof(troupe_module, struct_size) == 0, "struct_size stays first");
_Static_assert(offsetof(troupe_module, abi_major) == 4, "abi_major stays where it is");
_Static_assert(offsetof(troupe_module, abi_minor) == 6, "abi_minor stays where it is");
_Static_assert(offsetof(troupe_module, name) == 8, "fields are only appended");
_Static_assert(offsetof(troupe_module, build) == 8 + 4 * sizeof(void*), "fields are only appended");
_Static_assert(sizeof(troupe_module) == 8 + 5 * sizeof(void*), "a longer table needs a new minor version");
_Static_assert(offsetof(troupe_build_host, context) == 8, "fields are only appended");
_Static_assert(sizeof(troupe_build_host) == 8 + 3 * sizeof(void*),
               "a longer table needs a new minor version");

const troupe_module* troupe_header_is_c11(troupe_module_entry_function entry);
const troupe_module* troupe_header_is_c11(troupe_module_entry_function entry) {
  return entry();
}
