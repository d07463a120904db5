// Modules on the host's side: store, load, use. The ABI is kernel/abi/troupe/module.h. A module's code runs in the cell
// (sandbox/cell), a child process without rights. Only its native ops, if it has any, run in this process.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/modules/trust.hpp"
#include "kernel/program/program.hpp"
#include "sandbox/cell/cell.hpp"

namespace troupe::program {
class native_ops;  // kernel/program/native_ops.hpp
}

namespace troupe::modules {

// A module that has been looked at. Immutable; any thread.
class module {
 public:
  virtual ~module() = default;
  virtual const std::string& name() const = 0;
  virtual const std::string& version() const = 0;
  virtual const std::string& summary() const = 0;
  virtual const std::string& sha256() const = 0;                      // of the file, lowercase hex
  virtual const std::vector<std::string>& architectures() const = 0;  // Hugging Face names it serves
  virtual const std::filesystem::path& staged_path() const = 0;       // content-addressed copy that is run
  virtual const std::filesystem::path& origin() const = 0;            // the operator's file
  virtual std::uint16_t abi_major() const = 0;
  virtual std::uint16_t abi_minor() const = 0;
  virtual const std::string& walls() const = 0;  // what stood around the cell in which it was looked at

  // The ops that the module brings along, as its table describes them.
  virtual const std::vector<sandbox::native_op>& declared_ops() const = 0;

  // Why they may run in this process, or what to do so that they may. Modules without native ops need no trust.
  virtual const result<std::string>& trust() const = 0;

  // The same, to be run: maps the library into this process, if there are any; they keep it mapped by themselves. Errors:
  // bad_module: not trusted, with what to do; as store::load.
  virtual result<program::native_ops> native_ops() const = 0;

  // Emits the Program for a config.json and verifies it, native ops included; a few milliseconds, at most the cell's time
  // limit. Errors: bad_checkpoint (the key of config.json), unsupported, bad_program (what the verifier or a native op says),
  // bad_module (it threw, emitted nothing or twice, or what the cell says: it crashed, took too long, did what a module may
  // not).
  virtual result<program::verified_program> build(std::string_view config_json) const = 0;
};
using module_ptr = std::shared_ptr<const module>;

struct store_options {
  std::filesystem::path cell = sandbox::installed_cell();  // the program troupe-cell
  trust_policy trusted = trust_shipped();                  // for modules with native ops
};

// A folder of content-addressed copies, <folder>/<sha256>.so. The operator's file is read once, so it may be overwritten any time.
class store {
 public:
  // Creates the folder if need be, for its user alone. Errors: not_found with the reason; bad_config: the folder belongs to
  // another user, or others may write to it.
  static result<store> open(const std::filesystem::path& folder, store_options options = {});
  const std::filesystem::path& folder() const { return folder_; }

  // Copies (if not there yet, atomically), then looks at its table in the cell. Errors: not_found, bad_module: not a whole ELF
  // library, no entry symbol, wrong ABI (found, spoken, what to rebuild), a required field missing, or what the cell says.
  result<module_ptr> load(const std::filesystem::path& file) const;

 private:
  store(std::filesystem::path folder, store_options options)
      : folder_(std::move(folder)), options_(std::move(options)) {}
  std::filesystem::path folder_;
  store_options options_;
};

// The native ops of a copy that a store has made, <sha256>.so, in another place than the store's own process or at another time:
// the content must still be that of its name. Errors: as store::load; bad_module: the content is another.
result<program::native_ops> open_native_ops(const std::filesystem::path& staged);

// The modules that a server knows, by architecture.
class registry {
 public:
  // A later module for the same architecture replaces the earlier one for new look-ups.
  void add(module_ptr m);
  // Loads every *.so of a folder; those that fail are reported, not fatal.
  std::vector<error> add_folder(const store& s, const std::filesystem::path& folder);
  // Error: unknown_architecture; the text lists the architectures that are loaded.
  result<module_ptr> find(std::string_view architecture) const;
  const std::vector<module_ptr>& all() const { return modules_; }

 private:
  std::vector<module_ptr> modules_;
};

}  // namespace troupe::modules
