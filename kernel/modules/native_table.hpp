// Reads the native ops of a module's table and checks all that can be checked without calling them.
#pragma once

#include <troupe/module.h>

#include <string>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::modules {

// Empty for a module that has none, or whose table is of 1.0. `file` is named in errors: bad_module, with the op and the field.
result<std::vector<const troupe_native_op*>> read_native_ops(const troupe_module& table,
                                                             const std::string& file);

}  // namespace troupe::modules
