// The states of an operation on a model, and what leads from one to the next: one table, without clocks, files or actors.
// docs/live_operation.md draws it. The rule behind it: the commit lies between two states of a verb's path. A crash in a state before
// it comes back to what was before the operation, a crash behind it to what the operation wanted.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace troupe::deployment {

enum class verb : std::uint8_t { load, unload, swap, deploy, rollback, sleep, wake, pin, unpin, drain };

enum class state : std::uint8_t {
  queued,      // waits for the operation before it
  staging,     // files, generation, room
  verifying,   // the module builds its Program in the cell
  loading,     // actors start, the executor compiles beside the running steps
  switching,   // between two steps: the name points elsewhere, or nowhere
  watching,    // probation
  committing,  // the record is being written: `passed` says that it is whole and synced
  retiring,    // what is not needed any more ends
  clearing,    // the candidate ends; no client was ever served by it
  undoing,     // clients go back to the version before, then the candidate ends
  done,        // the end: as wanted
  refused,     // the end: nothing has changed for any client
  undone,      // the end: the candidate had served and was taken back
};

enum class event : std::uint8_t {
  passed,     // what the state does is done
  failed,     // it cannot be done, or probation raised an alarm
  withdrawn,  // the operator takes the operation back
};

inline constexpr std::uint8_t verbs = 10, states = 13, events = 3;  // how many there are

// What a verb goes through. A dry run ends before anything starts.
struct course {
  deployment::verb verb = verb::load;
  bool dry_run = false;
};

// From staging to done.
std::span<const state> path_of(course c);

// The state behind `at` when `what` happens; nothing: it cannot happen there, and nothing is to change.
std::optional<state> next(course c, state at, event what);

bool is_over(state s);

// Whether the verb changes what is intended. Of the others nothing is left behind a crash.
bool commits(course c);

// Whether the commit lies before the state: then the operation is carried through whatever happens.
bool is_committed(course c, state s);

std::string_view name_of(verb v);
std::string_view name_of(state s);
std::optional<verb> verb_named(std::string_view name);
std::optional<state> state_named(std::string_view name);

}  // namespace troupe::deployment
