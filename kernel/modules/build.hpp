// One call of a module's build(), with its answer collected and judged.
#pragma once

#include <troupe/module.h>

#include <string_view>

#include "kernel/base/result.hpp"
#include "kernel/program/native_ops.hpp"
#include "kernel/program/program.hpp"

namespace troupe::modules {

// `who` names the module in errors: "module mixtral 1.0.0"; `ops` are its native ones. Errors: see module::build.
result<program::verified_program> run_build(const troupe_module& table, const std::string& who,
                                            std::string_view config_json, const program::native_ops& ops);

}  // namespace troupe::modules
