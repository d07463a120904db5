// Loads a backend library. The executor's way to a device.
//
// A backend library defines, with boost/dll/alias.hpp, an alias `troupe_open_backend` of a function of the
// type open_backend_function (backend.hpp). It is of the same build as the executor: the types that pass are
// C++ types.
#pragma once

#include <filesystem>
#include <memory>

#include "ops/device/backend.hpp"

namespace troupe::ops {

// The library stays mapped as long as the backend lives; its models are gone before it.
// Errors: not_found (no such file), bad_config (not a backend library), and whatever the backend answers.
result<std::unique_ptr<backend>> open_backend(const std::filesystem::path& library,
                                              const backend_options& options);

}  // namespace troupe::ops
