// What a module may answer, checked: its table, and one call of its build(). This is all of Troupe that touches a module's code
// without looking at what it emits; it runs in the cell (sandbox/cell).
#pragma once

#include <troupe/module.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::modules {

// Error: bad_module; wrong major version, too small, or a required field missing. The text does not name the file.
result<void> check_table(const troupe_module* table);

// The bytes that the module emitted, not verified. Errors, without the module's name: bad_checkpoint (config.json),
// unsupported, bad_module.
result<std::vector<std::uint8_t>> call_build(const troupe_module& table, std::string_view config_json);

}  // namespace troupe::modules
