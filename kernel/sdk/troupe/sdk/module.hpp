// The whole SDK, and the macro that makes a shared library a module:
//
//   void build(troupe::sdk::builder& b, const troupe::sdk::json& config) { ... }
//   TROUPE_MODULE("mixtral", "1.0.0", "Mixtral mixture-of-experts models", build, "MixtralForCausalLM")
//
// build() may throw: the types of errors.hpp keep their status, any other exception is a fault of the module.
#pragma once

#include <troupe/module.h>

#include <cstddef>
#include <exception>
#include <string_view>
#include <troupe/sdk/builder.hpp>
#include <troupe/sdk/config.hpp>
#include <troupe/sdk/errors.hpp>
#include <troupe/sdk/json.hpp>
#include <troupe/sdk/native_op.hpp>
#include <troupe/sdk/rope.hpp>

namespace troupe::sdk {

using build_function = void (*)(builder&, const json& config);

// What the ABI's build() does. Nothing escapes.
inline troupe_status run_build(build_function build, const char* config, std::size_t bytes,
                               const troupe_build_host* host) noexcept {
  try {
    const json root = json::parse(std::string_view(config, bytes));
    if (root.type() != json::kind::object) root.wrong("an object");
    builder b;
    build(b, root);
    const auto program = b.finish();
    return host->emit(host->context, program.data(), program.size());
  } catch (const module_error& e) {
    return host->fail(host->context, e.status(), e.what());
  } catch (const std::exception& e) {
    return host->fail(host->context, TROUPE_FAILED, e.what());
  } catch (...) {
    return host->fail(host->context, TROUPE_FAILED, "an exception that is not a std::exception");
  }
}

}  // namespace troupe::sdk

// The arguments behind `build` are the architectures.
#define TROUPE_MODULE(module_name, module_version, module_summary, module_build, ...)      \
  TROUPE_MODULE_WITH_NATIVE_OPS(module_name, module_version, module_summary, module_build, \
                                troupe::sdk::native_op_list<>, __VA_ARGS__)

// The same for a module that brings ops along; `module_ops` is a native_op_list (native_op.hpp).
#define TROUPE_MODULE_WITH_NATIVE_OPS(module_name, module_version, module_summary, module_build, module_ops, \
                                      ...)                                                                   \
  extern "C" TROUPE_EXPORT const troupe_module* troupe_module_entry(void) {                                  \
    static const char* const architectures[] = {__VA_ARGS__, nullptr};                                       \
    static const troupe_module table = {                                                                     \
        sizeof(troupe_module),                                                                               \
        TROUPE_ABI_MAJOR,                                                                                    \
        TROUPE_ABI_MINOR,                                                                                    \
        module_name,                                                                                         \
        module_version,                                                                                      \
        module_summary,                                                                                      \
        architectures,                                                                                       \
        [](const char* config, std::size_t bytes, const troupe_build_host* host) {                           \
          return troupe::sdk::run_build(module_build, config, bytes, host);                                  \
        },                                                                                                   \
        module_ops::table()};                                                                                \
    return &table;                                                                                           \
  }
