// Modules on the host's side: store, load, use, unload. The ABI is kernel/abi/troupe/module.h.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/program/program.hpp"

namespace troupe::program {
class native_ops;  // kernel/program/native_ops.hpp
}

namespace troupe::modules {

// A loaded module. The library stays mapped while any reference lives and is closed with the last one. Any thread.
class module {
 public:
  virtual ~module() = default;
  virtual const std::string& name() const = 0;
  virtual const std::string& version() const = 0;
  virtual const std::string& summary() const = 0;
  virtual const std::string& sha256() const = 0;                      // of the file, lowercase hex
  virtual const std::vector<std::string>& architectures() const = 0;  // Hugging Face names it serves
  virtual const std::filesystem::path& staged_path() const = 0;       // content-addressed copy that is mapped
  virtual const std::filesystem::path& origin() const = 0;            // the operator's file
  virtual std::uint16_t abi_major() const = 0;
  virtual std::uint16_t abi_minor() const = 0;

  // The ops that the module brings along; they keep the library mapped by themselves.
  virtual program::native_ops native_ops() const = 0;

  // Emits the Program for a config.json and verifies it, native ops included. Errors: bad_checkpoint (the key of
  // config.json), unsupported, bad_program (what the verifier or a native op says), bad_module (the module threw, emitted
  // nothing or twice).
  virtual result<program::verified_program> build(std::string_view config_json) const = 0;
};
using module_ptr = std::shared_ptr<const module>;

// A folder of content-addressed copies, <folder>/<sha256>.so. The operator's file is never mapped, so it may be overwritten any time.
class store {
 public:
  // Creates the folder if need be, for its user alone. Errors: not_found with the reason; bad_config: the folder belongs to
  // another user, or others may write to it.
  static result<store> open(const std::filesystem::path& folder);
  const std::filesystem::path& folder() const { return folder_; }

  // Copies (if not there yet, atomically), then loads. Errors: not_found, bad_module: not a whole ELF library, no entry symbol,
  // wrong ABI (found, spoken, what to rebuild), a required field missing.
  result<module_ptr> load(const std::filesystem::path& file) const;

 private:
  explicit store(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path folder_;
};

// Loads a copy that a store has made, <sha256>.so, in another place than the store's own process or at another time: the content
// must still be that of its name. Errors: as store::load; bad_module: the content is another.
result<module_ptr> load_staged(const std::filesystem::path& copy);

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
