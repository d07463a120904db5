#include "actors/deployment/operation.hpp"

#include <algorithm>
#include <array>
#include <iterator>

namespace troupe::deployment {

namespace {

// A load has nothing to be compared with, so it has no probation, and no client is served before the commit. An unload is
// intended before it is seen. A swap is committed when its probation is over.
constexpr std::array load_path = {state::staging,    state::verifying, state::loading,
                                  state::committing, state::switching, state::done};
constexpr std::array unload_path = {state::staging, state::committing, state::switching, state::retiring,
                                    state::done};
constexpr std::array swap_path = {state::staging,  state::verifying,  state::loading,  state::switching,
                                  state::watching, state::committing, state::retiring, state::done};
// What is closed for a while is intended all the same: a crash comes back to it open.
constexpr std::array rest_path = {state::staging, state::switching, state::retiring, state::done};
constexpr std::array wake_path = {state::staging, state::loading, state::switching, state::done};
constexpr std::array pin_path = {state::staging, state::committing, state::done};
constexpr std::array dry_path = {state::staging, state::verifying, state::done};
constexpr std::array short_dry_path = {state::staging, state::done};

constexpr std::array<std::string_view, verbs> verb_names = {"load",  "unload", "swap", "deploy", "rollback",
                                                            "sleep", "wake",   "pin",  "unpin",  "drain"};
constexpr std::array<std::string_view, states> state_names = {
    "queued",   "staging",  "verifying", "loading", "switching", "watching", "committing",
    "retiring", "clearing", "undoing",   "done",    "refused",   "undone"};

bool reached(std::span<const state> path, state wanted, state at) {
  const auto here = std::ranges::find(path, at);
  return std::find(path.begin(), here, wanted) != here || (here != path.end() && at == wanted);
}

// Before the commit: out of what has been begun, in the reverse order.
state way_out(std::span<const state> path, state at) {
  if (reached(path, state::switching, at)) return state::undoing;
  if (reached(path, state::loading, at)) return state::clearing;
  return state::refused;
}

template <class Enum, class Names>
std::optional<Enum> named(const Names& names, std::string_view name) {
  const auto found = std::ranges::find(names, name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

}  // namespace

std::span<const state> path_of(course c) {
  const bool builds =
      c.verb == verb::load || c.verb == verb::swap || c.verb == verb::deploy || c.verb == verb::rollback;
  if (c.dry_run) return builds ? std::span<const state>(dry_path) : short_dry_path;
  switch (c.verb) {
    case verb::load:
      return load_path;
    case verb::unload:
      return unload_path;
    case verb::swap:
    case verb::deploy:
    case verb::rollback:
      return swap_path;
    case verb::sleep:
    case verb::drain:
      return rest_path;
    case verb::wake:
      return wake_path;
    case verb::pin:
    case verb::unpin:
      break;
  }
  return pin_path;
}

std::optional<state> next(course c, state at, event what) {
  if (is_over(at)) return std::nullopt;
  const auto path = path_of(c);
  if (at == state::queued) return what == event::passed ? path.front() : state::refused;
  // What cannot be taken back goes on to its end, with whatever is left of it in the report.
  if (at == state::clearing || at == state::undoing) {
    if (what == event::withdrawn) return std::nullopt;
    return at == state::clearing ? state::refused : state::undone;
  }
  const auto here = std::ranges::find(path, at);
  if (here == path.end()) return std::nullopt;
  if (what == event::passed) return *std::next(here);
  if (is_committed(c, at)) return what == event::failed ? std::optional(*std::next(here)) : std::nullopt;
  if (at == state::committing && what == event::withdrawn) return std::nullopt;  // the record may be whole
  return way_out(path, at);
}

bool is_over(state s) {
  return s == state::done || s == state::refused || s == state::undone;
}

bool commits(course c) {
  const auto path = path_of(c);
  return std::ranges::find(path, state::committing) != path.end();
}

bool is_committed(course c, state s) {
  const auto path = path_of(c);
  const auto commit = std::ranges::find(path, state::committing);
  return commit != path.end() && std::find(std::next(commit), path.end(), s) != path.end();
}

std::string_view name_of(verb v) {
  return verb_names[static_cast<std::size_t>(v)];
}
std::string_view name_of(state s) {
  return state_names[static_cast<std::size_t>(s)];
}
std::optional<verb> verb_named(std::string_view name) {
  return named<verb>(verb_names, name);
}
std::optional<state> state_named(std::string_view name) {
  return named<state>(state_names, name);
}

}  // namespace troupe::deployment
