// From the operator's file to a module: read, copy, look at its table in the cell.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "kernel/modules/loader.hpp"
#include "kernel/modules/modules.hpp"
#include "kernel/modules/stage.hpp"

namespace troupe::modules {

namespace {

namespace fs = std::filesystem;

// This process maps its library only if it has native ops, and is asked for them.
class staged_module final : public module {
 public:
  staged_module(sandbox::cell_report report, result<std::string> trust, std::string sha256, fs::path staged,
                fs::path origin, fs::path cell)
      : table_(std::move(report.table)),
        walls_(std::move(report.walls)),
        trust_(std::move(trust)),
        sha256_(std::move(sha256)),
        staged_(std::move(staged)),
        origin_(std::move(origin)),
        cell_(std::move(cell)) {}

  const std::string& name() const override { return table_.name; }
  const std::string& version() const override { return table_.version; }
  const std::string& summary() const override { return table_.summary; }
  const std::string& sha256() const override { return sha256_; }
  const std::vector<std::string>& architectures() const override { return table_.architectures; }
  const fs::path& staged_path() const override { return staged_; }
  const fs::path& origin() const override { return origin_; }
  std::uint16_t abi_major() const override { return table_.abi_major; }
  std::uint16_t abi_minor() const override { return table_.abi_minor; }
  const std::string& walls() const override { return walls_; }
  const std::vector<sandbox::native_op>& declared_ops() const override { return table_.native_ops; }

  const result<std::string>& trust() const override { return trust_; }

  result<program::native_ops> native_ops() const override {
    if (table_.native_ops.empty()) return program::native_ops();
    if (!trust_) return fail(trust_.error());
    return map_native_ops(staged_, origin_);
  }

  result<program::verified_program> build(std::string_view config_json) const override {
    auto report = sandbox::run_cell(cell_, staged_, config_json);
    if (!report)
      return fail(sandbox::to_error(report.error(), origin_.string(),
                                    fmt::format("module {} {}", table_.name, table_.version)));
    return std::move(*report->program);
  }

 private:
  sandbox::module_table table_;
  std::string walls_;
  result<std::string> trust_;
  std::string sha256_;
  fs::path staged_, origin_, cell_;
};

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

}  // namespace

result<store> store::open(const fs::path& folder, store_options options) {
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
  return store(absolute, std::move(options));
}

result<module_ptr> store::load(const fs::path& file) const {
  const auto bytes = read_library(file);
  if (!bytes) return fail(bytes.error());
  auto sha256 = sha256_hex(*bytes);
  if (sha256.empty()) return fail(error_code::internal, "{}: SHA-256 is not available", file.string());
  auto staged = stage(folder_, sha256, *bytes);
  if (!staged) return fail(std::move(staged.error()));
  auto report = sandbox::run_cell(options_.cell, *staged, std::nullopt);
  if (!report) return fail(sandbox::to_error(report.error(), file.string(), ""));
  auto trust = options_.trusted.judge(file, sha256);
  return std::make_shared<const staged_module>(std::move(*report), std::move(trust), std::move(sha256),
                                               std::move(*staged), file, options_.cell);
}

result<program::native_ops> open_native_ops(const fs::path& staged) {
  return map_native_ops(staged, staged);
}

}  // namespace troupe::modules
