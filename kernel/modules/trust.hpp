// Whom the operator trusts with code that runs in the server's own process: modules with native ops. Modules without need no
// trust, for their code runs in the cell only.
//
// A module is trusted if it came with this Troupe, if its SHA-256 is listed, or if a listed key has signed it (signature.hpp).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::modules {

// The operator's list, a text file: one entry a line, "sha256 <64 hex digits> <note>" or "ed25519 <64 hex digits> <note>"; the
// note may be missing. Lines that begin with # say nothing.
class trust_list {
 public:
  struct entry {
    std::string kind;  // sha256, ed25519
    std::string hex;
    std::string note;
  };

  // No file = an empty list. Errors: not_found with the reason; bad_config: a line that is no entry; others than its owner, who
  // must be this user or root, may write to it.
  static result<trust_list> load(const std::filesystem::path& file);
  result<void> save(const std::filesystem::path& file) const;

  // False = it is there already; a new note then replaces the old one, an empty one does not.
  bool add(entry e);
  // By the digits or the beginning of them, at least 8. The entry that is gone; none = none, or several, are so.
  std::optional<entry> remove(std::string_view hex);

  const entry* find(std::string_view kind, std::string_view hex) const;
  const std::vector<entry>& entries() const { return entries_; }

 private:
  std::vector<entry> entries_;
};

// What may be trusted, for a store.
struct trust_policy {
  // <folder>/x.so came with this Troupe if <folder>/x.so.sha256, written when it was built or installed, has its SHA-256. Empty
  // = nothing came with it.
  std::filesystem::path shipped;
  trust_list listed;
  std::filesystem::path list;  // where `listed` stands: for people

  // Why the file is trusted: "came with this Troupe". Error: bad_module; the text says how to trust it.
  result<std::string> judge(const std::filesystem::path& library, std::string_view sha256) const;
};

// Modules that came with the installation of the running program, and nobody else.
trust_policy trust_shipped();

// Those of `shipped`, and those that the file lists; empty = there is no list. Errors: as trust_list::load.
result<trust_policy> load_trust(const std::filesystem::path& shipped, const std::filesystem::path& list);

}  // namespace troupe::modules
