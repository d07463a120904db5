// The header alone, as strict C++20.
#include <troupe/module.h>

#include <type_traits>

static_assert(std::is_standard_layout_v<troupe_module> && std::is_trivial_v<troupe_module>);
static_assert(std::is_standard_layout_v<troupe_build_host> && std::is_trivial_v<troupe_build_host>);
static_assert(std::is_same_v<decltype(&troupe_module_entry), troupe_module_entry_function>);
