#include "kernel/modules/loader.hpp"

#include <boost/dll/shared_library.hpp>
#include <memory>
#include <mutex>

#include "kernel/modules/call.hpp"
#include "kernel/modules/modules.hpp"
#include "kernel/modules/native_table.hpp"
#include "kernel/modules/stage.hpp"

namespace troupe::modules {

namespace {

namespace fs = std::filesystem;
namespace dll = boost::dll;

// One library is opened or closed at a time. The C library has a lock of its own, but one that the thread sanitizer does
// not see, and initialisers of two modules need not run side by side.
std::mutex loader_mutex;

// Closed with the last reference.
std::shared_ptr<dll::shared_library> open(const fs::path& staged) {
  const auto close = [](dll::shared_library* library) {
    const std::lock_guard lock(loader_mutex);
    delete library;
  };
  const std::lock_guard lock(loader_mutex);
  return {new dll::shared_library(staged, dll::load_mode::rtld_now | dll::load_mode::rtld_local), close};
}

}  // namespace

result<program::native_ops> map_native_ops(const fs::path& staged, const fs::path& origin) {
  const auto bytes = read_library(staged);
  if (!bytes) return fail(bytes.error());
  if (const auto sha256 = sha256_hex(*bytes); staged.stem() != sha256)
    return fail(error_code::bad_module,
                "{}: its content is not the one that it is named after (SHA-256 {}): was it changed?",
                staged.string(), sha256);
  const auto prefixed = [&](const error& e) { return fail(e.code, "{}: {}", origin.string(), e.text); };
  try {
    const auto library = open(staged);
    const auto entry = library->get<const troupe_module*()>(TROUPE_MODULE_ENTRY_NAME);
    const troupe_module* table = entry();
    if (auto ok = check_table(table); !ok) return prefixed(ok.error());
    auto ops = read_native_ops(*table);
    if (!ops) return prefixed(ops.error());
    if (ops->empty()) return program::native_ops();
    return program::native_ops(std::move(*ops), library);
  } catch (const std::exception& e) {
    return fail(error_code::bad_module, "{}: cannot be loaded: {}", origin.string(), e.what());
  }
}

}  // namespace troupe::modules
