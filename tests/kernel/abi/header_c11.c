/* The header alone, as strict C11. */
#include <troupe/module.h>

_Static_assert(sizeof(troupe_status) == 4, "a status has 32 bits");
_Static_assert(offsetof(troupe_module, struct_size) == 0, "struct_size stays first");
_Static_assert(offsetof(troupe_module, abi_major) == 4, "abi_major stays where it is");
_Static_assert(offsetof(troupe_module, abi_minor) == 6, "abi_minor stays where it is");
_Static_assert(offsetof(troupe_module, name) == 8, "fields are only appended");
_Static_assert(offsetof(troupe_module, build) == 8 + 4 * sizeof(void*), "fields are only appended");
_Static_assert(offsetof(troupe_module, native_ops) == 8 + 5 * sizeof(void*), "1.1 begins where 1.0 ended");
_Static_assert(sizeof(troupe_module) == 8 + 6 * sizeof(void*), "a longer table needs a new minor version");
_Static_assert(offsetof(troupe_build_host, context) == 8, "fields are only appended");
_Static_assert(sizeof(troupe_build_host) == 8 + 3 * sizeof(void*),
               "a longer table needs a new minor version");
_Static_assert(sizeof(troupe_native_value) == 8 + sizeof(void*), "frozen: stands in arrays");
_Static_assert(sizeof(troupe_tensor) == 8 + 4 * 8 + sizeof(void*), "frozen: stands in arrays");
_Static_assert(sizeof(troupe_weight) == 8 + 4 * 8 + sizeof(void*), "frozen: stands in arrays");
_Static_assert(sizeof(troupe_attribute) == 8 + sizeof(void*), "frozen: stands in arrays");
_Static_assert(offsetof(troupe_native_op, name) == 8, "fields are only appended");
_Static_assert(offsetof(troupe_native_op, cuda) == 8 + 9 * sizeof(void*) + 16, "fields are only appended");
_Static_assert(sizeof(troupe_native_op) == 8 + 10 * sizeof(void*) + 16,
               "a longer table needs a new minor version");
_Static_assert(offsetof(troupe_native_use, inputs) == 32, "fields are only appended");
_Static_assert(sizeof(troupe_native_use) == 32 + 7 * sizeof(void*),
               "a longer table needs a new minor version");
_Static_assert(offsetof(troupe_native_step, sequence_rows) == 24, "fields are only appended");
_Static_assert(sizeof(troupe_native_step) == 24 + 6 * sizeof(void*),
               "a longer table needs a new minor version");

const troupe_module* troupe_header_is_c11(troupe_module_entry_function entry);
const troupe_module* troupe_header_is_c11(troupe_module_entry_function entry) {
  return entry();
}
