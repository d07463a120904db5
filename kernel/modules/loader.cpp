// From a file to a module: read, copy, map, check the table.
#include <sys/stat.h>
#include <unistd.h>

#include <boost/dll/shared_library.hpp>
#include <cerrno>
#include <cstddef>
#include <mutex>

#include "kernel/modules/build.hpp"
#include "kernel/modules/modules.hpp"
#include "kernel/modules/native_table.hpp"
#include "kernel/modules/stage.hpp"

namespace troupe::modules {

namespace {

namespace fs = std::filesystem;
namespace dll = boost::dll;

constexpr std::size_t max_architectures = 256;

// What the table had in version 1.0, and what every later 1.x still begins with: all that is read without a look at its size.
constexpr std::size_t table_bytes_1_0 = offsetof(troupe_module, build) + sizeof(troupe_module::build);

// One library is opened or closed at a time. The C library has a lock of its own, but one that the thread sanitizer does
// not see, and initialisers of two modules need not run side by side.
std::mutex loader_mutex;

class loaded_module final : public module, public std::enable_shared_from_this<loaded_module> {
 public:
  loaded_module(dll::shared_library library, const troupe_module& table,
                std::vector<const troupe_native_op*> ops, std::string sha256, fs::path staged,
                fs::path origin)
      : library_(std::move(library)),
        table_(table),
        native_ops_(std::move(ops)),
        name_(table.name),
        version_(table.version),
        summary_(table.summary),
        sha256_(std::move(sha256)),
        staged_(std::move(staged)),
        origin_(std::move(origin)) {
    for (const char* const* name = table.architectures; *name != nullptr; ++name)
      architectures_.emplace_back(*name);
  }

  ~loaded_module() override {
    const std::lock_guard lock(loader_mutex);
    library_.unload();
  }

  const std::string& name() const override { return name_; }
  const std::string& version() const override { return version_; }
  const std::string& summary() const override { return summary_; }
  const std::string& sha256() const override { return sha256_; }
  const std::vector<std::string>& architectures() const override { return architectures_; }
  const fs::path& staged_path() const override { return staged_; }
  const fs::path& origin() const override { return origin_; }
  std::uint16_t abi_major() const override { return table_.abi_major; }
  std::uint16_t abi_minor() const override { return table_.abi_minor; }

  program::native_ops native_ops() const override {
    return native_ops_.empty() ? program::native_ops() : program::native_ops(native_ops_, shared_from_this());
  }

  result<program::verified_program> build(std::string_view config_json) const override {
    return run_build(table_, fmt::format("module {} {}", name_, version_), config_json, native_ops());
  }

 private:
  dll::shared_library library_;  // nothing below points into it but the next two
  const troupe_module& table_;
  std::vector<const troupe_native_op*> native_ops_;
  std::string name_, version_, summary_, sha256_;
  std::vector<std::string> architectures_;
  fs::path staged_, origin_;
};

std::string field_problem(const troupe_module& table) {
  const auto is_empty = [](const char* text) { return text == nullptr || *text == '\0'; };
  if (is_empty(table.name)) return "name";
  if (is_empty(table.version)) return "version";
  if (is_empty(table.summary)) return "summary";
  if (table.architectures == nullptr || table.architectures[0] == nullptr) return "architectures";
  if (table.build == nullptr) return "build";
  return {};
}

result<void> check_table(const troupe_module* table, const std::string& file) {
  if (table == nullptr)
    return fail(error_code::bad_module, "{}: {} answered null", file, TROUPE_MODULE_ENTRY_NAME);
  if (table->abi_major != TROUPE_ABI_MAJOR)
    return fail(
        error_code::bad_module,
        "{}: built for module interface {}.{}, this Troupe speaks {}.{}: rebuild the module against this "
        "Troupe's <troupe/module.h>, or use a Troupe of the module's generation",
        file, table->abi_major, table->abi_minor, TROUPE_ABI_MAJOR, TROUPE_ABI_MINOR);
  if (table->struct_size < table_bytes_1_0)
    return fail(error_code::bad_module,
                "{}: its table has {} bytes, expected at least {}: rebuild the module", file,
                table->struct_size, table_bytes_1_0);
  if (const auto field = field_problem(*table); !field.empty())
    return fail(error_code::bad_module, "{}: the field {} of its table is empty", file, field);
  std::size_t count = 0;
  while (count <= max_architectures && table->architectures[count] != nullptr) ++count;
  if (count > max_architectures)
    return fail(error_code::bad_module, "{}: architectures: more than {}: is the list ended by null?", file,
                max_architectures);
  return {};
}

// What stands in the store is executed: nobody else may put anything there.
result<void> check_private(const fs::path& folder) {
  struct stat info = {};
  if (::stat(folder.c_str(), &info) != 0)
    return fail(error_code::not_found, "{}: the module store cannot be read: {}", folder.string(),
                std::generic_category().message(errno));
  if (info.st_uid != ::geteuid())
    return fail(
        error_code::bad_config,
        "{}: the module store belongs to user {}, expected {} who runs Troupe: name another folder in "
        "modules.store",
        folder.string(), info.st_uid, ::geteuid());
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return fail(error_code::bad_config,
                "{0}: others may write to the module store, whose files are executed: chmod go-w {0}, or "
                "name another "
                "folder in modules.store",
                folder.string());
  return {};
}

// Maps a staged copy and asks for its table. `origin` is named in errors.
result<module_ptr> map_module(const fs::path& staged, std::string sha256, const fs::path& origin) {
  try {
    const std::lock_guard lock(loader_mutex);
    dll::shared_library library(staged, dll::load_mode::rtld_now | dll::load_mode::rtld_local);
    if (!library.has(TROUPE_MODULE_ENTRY_NAME))
      return fail(error_code::bad_module, "{}: not a module: it does not export {}", origin.string(),
                  TROUPE_MODULE_ENTRY_NAME);
    const troupe_module* table = library.get<const troupe_module*()>(TROUPE_MODULE_ENTRY_NAME)();
    if (auto ok = check_table(table, origin.string()); !ok) return fail(std::move(ok.error()));
    auto native = read_native_ops(*table, origin.string());
    if (!native) return fail(std::move(native.error()));
    return std::make_shared<const loaded_module>(std::move(library), *table, std::move(*native),
                                                 std::move(sha256), staged, origin);
  } catch (const std::exception& e) {
    return fail(error_code::bad_module, "{}: cannot be loaded: {}", origin.string(), e.what());
  }
}

}  // namespace

result<store> store::open(const fs::path& folder) {
  const fs::path clean = (folder / "").parent_path();  // no slash behind
  std::error_code code;
  if (clean.has_parent_path()) fs::create_directories(clean.parent_path(), code);
  if (!code && ::mkdir(clean.c_str(), S_IRWXU) != 0 && errno != EEXIST)
    code.assign(errno, std::generic_category());
  if (code)
    return fail(error_code::not_found, "{}: the module store cannot be created: {}", folder.string(),
                code.message());
  const fs::path absolute = fs::canonical(clean, code);
  if (code || !fs::is_directory(absolute, code))
    return fail(error_code::not_found, "{}: the module store is not a folder", folder.string());
  if (auto ok = check_private(absolute); !ok) return fail(std::move(ok.error()));
  return store(absolute);
}

result<module_ptr> store::load(const fs::path& file) const {
  const auto bytes = read_library(file);
  if (!bytes) return fail(bytes.error());
  auto sha256 = sha256_hex(*bytes);
  if (sha256.empty()) return fail(error_code::internal, "{}: SHA-256 is not available", file.string());
  auto staged = stage(folder_, sha256, *bytes);
  if (!staged) return fail(std::move(staged.error()));
  return map_module(*staged, std::move(sha256), file);
}

result<module_ptr> load_staged(const fs::path& copy) {
  const auto bytes = read_library(copy);
  if (!bytes) return fail(bytes.error());
  auto sha256 = sha256_hex(*bytes);
  if (copy.stem() != sha256)
    return fail(error_code::bad_module,
                "{}: its content is not the one that it is named after (SHA-256 {}): was it changed?",
                copy.string(), sha256);
  return map_module(copy, std::move(sha256), copy);
}

}  // namespace troupe::modules
