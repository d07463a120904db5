// Reads the native ops of a module's table and checks all that can be checked without calling them.
#pragma once

#include <troupe/module.h>

#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::modules {

// Empty for a module that has none, or whose table is of 1.0. Error: bad_module, with the op and the field, without the file.
result<std::vector<const troupe_native_op*>> read_native_ops(const troupe_module& table);

}  // namespace troupe::modules
