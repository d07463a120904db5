// All operations of a server, their order, and what is intended for each model: the thinking of the deployer without its mailbox.
// Time is passed in; what must survive is written through `write` before anything depends on it.
//
// Use: open() or withdraw() or advance(), then do what the state of each operation that they answer asks for, and report by advance().
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "actors/deployment/record.hpp"
#include "kernel/base/result.hpp"

namespace troupe::deployment {

// A model of the configuration.
struct base_entry {
  std::string model;
  version intended;
};

struct request {
  std::string model;  // not empty
  deployment::course course;
  version wanted;  // load, deploy: checkpoint and context. The others find what they want in the book
  std::int64_t expected_generation = -1;  // 0 = not served, -1 = any
  bool queue = false;                     // wait behind another operation on the model
};

// What is to be served under a name now.
struct intended {
  std::string model;
  version what;
  std::uint64_t generation = 0;  // counts on when it is not served
};

class book {
 public:
  using writer = std::function<result<void>(const record&)>;
  using changes = std::vector<operation>;  // in order; each as it stands then

  static constexpr std::size_t kept_history = 200;  // operations that are over

  // From the configuration and what a journal held. Operations that had not ended are ended; their records are written.
  book(std::span<const base_entry> configured, std::span<const record> past, writer write,
       std::uint64_t now_ms);

  // Errors: conflict (also: the model is pinned, or there is nothing to roll back to), busy, unknown_model, or the writer's.
  result<operation> open(const request& wanted, std::uint64_t now_ms);

  // What happened in the operation's state; where that is not expected, nothing changes. `passed` in the state committing
  // writes the commit: if that fails, it is `failed`. Answers the operation, and the next in its queue if its turn has come.
  changes advance(std::uint64_t id, event what, std::string_view reason, std::uint64_t now_ms);

  // The module that built the candidate; before the commit.
  // `own`: it was named by the operator, so that a restart has to find that very one.
  void set_module(std::uint64_t id, const std::string& sha256, bool own);

  // What built the Program of a model that the configuration names.
  void learn_module(std::string_view model, const std::string& sha256);

  // Every operation that is under way and not committed fails: whoever drove them is gone.
  changes fail_all(std::string_view reason, std::uint64_t now_ms);

  const operation* find(std::uint64_t id) const;
  const operation* current(std::string_view model) const;     // that has begun and is not over; null: none
  const version* intended_of(std::string_view model) const;   // null: not served
  std::uint64_t generation_of(std::string_view model) const;  // 0 = not served
  std::vector<intended> served() const;
  std::vector<operation> under_way() const;
  std::vector<operation> history() const;  // oldest first: ended ones, then those under way
  std::vector<record> digest() const;      // what a compacted journal holds

 private:
  struct entry {
    version intended;
    version before;                // the version served before it; to roll back to
    std::uint64_t generation = 0;  // of the last commit
    std::string base;              // the configuration's entry; empty = none
    bool changed = false;          // by a commit: worth keeping
    std::uint64_t changed_by = 0;  // operation
    std::uint64_t current = 0;     // operation; 0 = none
    std::deque<std::uint64_t> queue;
  };

  void replay(const record& r, std::map<std::string, record>& commits, std::map<std::string, version>& before,
              std::map<std::uint64_t, bool>& open);
  void adopt(const std::map<std::string, record>& commits, const std::map<std::string, version>& before);
  std::optional<error> objection(const operation& o) const;
  void find_wanted(operation& o) const;
  result<void> begin(operation& o);
  result<void> commit(operation& o);
  void finish(operation& o, std::uint64_t now_ms);
  void call_next(entry& of, std::uint64_t now_ms, changes& out);

  writer write_;
  std::map<std::string, entry, std::less<>> models_;
  std::map<std::uint64_t, operation> operations_;
  std::uint64_t last_id_ = 0;
};

// How the configuration's entry of a model is remembered in commits.
std::string fingerprint(const version& configured);

}  // namespace troupe::deployment
