// Opens a module in this process: only for its native ops, and only if the operator trusts it (store.cpp asks).
#pragma once

#include <filesystem>

#include "kernel/base/result.hpp"
#include "kernel/program/native_ops.hpp"

namespace troupe::modules {

// `staged`: <sha256>.so; the content must still be that of its name. `origin` is named in errors: not_found, bad_module.
result<program::native_ops> map_native_ops(const std::filesystem::path& staged,
                                           const std::filesystem::path& origin);

}  // namespace troupe::modules
