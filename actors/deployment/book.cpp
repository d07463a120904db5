#include "actors/deployment/book.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace troupe::deployment {

namespace {

constexpr std::string_view server_ended = "the server ended meanwhile";

std::string generation_text(std::uint64_t generation) {
  return generation == 0 ? "not served" : fmt::format("generation {}", generation);
}

// Whether the change is one that a rollback takes back: another version under the same name.
bool is_other(const version& a, const version& b) {
  return a.served() && b.served() &&
         (a.checkpoint != b.checkpoint || a.max_context != b.max_context ||
          ((a.own_module || b.own_module) && a.module_sha256 != b.module_sha256));
}

}  // namespace

std::string fingerprint(const version& configured) {
  return fmt::format("{}|{}", configured.checkpoint, configured.max_context);
}

// ---- from the journal -------------------------------------------------------------------------------------

book::book(std::span<const base_entry> configured, std::span<const record> past, writer write,
           std::uint64_t now_ms)
    : write_(std::move(write)) {
  for (const base_entry& b : configured) {
    entry& e = models_[b.model];
    e.intended = b.intended;
    e.generation = 1;
    e.base = fingerprint(b.intended);
  }
  std::map<std::string, record> commits;  // the last of each model
  std::map<std::string, version> before;
  std::map<std::uint64_t, bool> unfinished;  // operation: committed
  for (const record& r : past) replay(r, commits, before, unfinished);
  adopt(commits, before);
  for (const auto& [id, committed] : unfinished) {
    operation& o = operations_[id];
    o.state = committed ? state::done : state::refused;
    o.reason = server_ended;
    finish(o, now_ms);
  }
}

void book::replay(const record& r, std::map<std::string, record>& commits,
                  std::map<std::string, version>& before, std::map<std::uint64_t, bool>& unfinished) {
  last_id_ = std::max(last_id_, r.of.id);
  if (r.what == record::kind::begun) {
    operations_[r.of.id] = r.of;
    operations_[r.of.id].new_generation = r.of.old_generation;
    unfinished[r.of.id] = false;
    return;
  }
  const auto known = operations_.find(r.of.id);
  if (r.what == record::kind::committed) {
    const auto last = commits.find(r.of.model);
    const auto base = models_.find(r.of.model);
    if (last != commits.end() && is_other(last->second.of.wanted, r.of.wanted))
      before[r.of.model] = last->second.of.wanted;
    else if (last == commits.end() && base != models_.end() && is_other(base->second.intended, r.of.wanted))
      before[r.of.model] = base->second.intended;
    commits[r.of.model] = r;
    if (known == operations_.end()) return;  // compacted away
    known->second.new_generation = r.of.wanted.served() ? r.generation : 0;
    unfinished[r.of.id] = true;
    return;
  }
  if (known == operations_.end()) return;
  operation& o = known->second;
  o.state = r.of.state;
  o.ended_ms = r.of.ended_ms;
  o.new_generation = r.of.new_generation;
  o.reason = r.of.reason;
  unfinished.erase(o.id);
}

// A commit overrides the configuration's entry until that is edited.
void book::adopt(const std::map<std::string, record>& commits, const std::map<std::string, version>& before) {
  for (const auto& [model, commit] : commits) {
    entry& e = models_[model];
    if (e.base != commit.base) {
      e.generation = commit.generation + 1;
      continue;
    }
    e.intended = commit.of.wanted;
    if (const auto known = before.find(model); known != before.end()) e.before = known->second;
    e.generation = commit.generation;
    e.changed = true;
    e.changed_by = commit.of.id;
  }
}

// ---- operations -------------------------------------------------------------------------------------------

std::optional<error> book::objection(const operation& o) const {
  const std::uint64_t found = generation_of(o.model);
  if (o.course.verb != verb::load && found == 0)
    return error{error_code::unknown_model, fmt::format("model: '{}' is not served here", o.model)};
  if (o.expected_generation >= 0 && static_cast<std::uint64_t>(o.expected_generation) != found)
    return error{error_code::conflict,
                 fmt::format("model {}: expected {}, found {}: look at it again and repeat with the present "
                             "one if you still want that",
                             o.model, generation_text(static_cast<std::uint64_t>(o.expected_generation)),
                             generation_text(found))};
  if (o.course.verb == verb::load && found != 0)
    return error{
        error_code::conflict,
        fmt::format("model {}: a model of that name is served already (generation {}): unload it, or "
                    "give another name",
                    o.model, found)};
  if (found == 0) return std::nullopt;
  const entry& e = models_.find(o.model)->second;
  if (e.intended.pinned && o.course.verb != verb::pin && o.course.verb != verb::unpin)
    return error{error_code::conflict,
                 fmt::format("model {}: it is pinned: `troupe pin --off {}` first", o.model, o.model)};
  if (o.course.verb == verb::rollback && !e.before.served())
    return error{
        error_code::conflict,
        fmt::format("model {}: no version before generation {} is known to go back to", o.model, found)};
  return std::nullopt;
}

result<operation> book::open(const request& wanted, std::uint64_t now_ms) {
  operation o;
  o.model = wanted.model;
  o.course = wanted.course;
  o.wanted = wanted.wanted;
  o.expected_generation = wanted.expected_generation;
  o.begun_ms = now_ms;
  o.old_generation = o.new_generation = generation_of(o.model);
  const auto known = models_.find(wanted.model);
  if (known != models_.end() && known->second.current != 0) {
    const operation& other = operations_.at(known->second.current);
    if (!wanted.queue)
      return fail(
          error_code::busy,
          "model {}: operation {} ({}) is under way ({}): wait for its end, or ask to be queued behind it",
          o.model, other.id, name_of(other.course.verb), name_of(other.state));
    o.id = ++last_id_;
    known->second.queue.push_back(o.id);
    return operations_[o.id] = o;
  }
  if (auto problem = objection(o)) return fail(std::move(*problem));
  o.id = ++last_id_;
  if (auto begun = begin(o); !begun) return fail(std::move(begun.error()));
  models_[o.model].current = o.id;
  return operations_[o.id] = o;
}

// What follows from the book when its turn has come.
void book::find_wanted(operation& o) const {
  const auto known = models_.find(o.model);
  if (o.course.verb == verb::load || o.course.verb == verb::deploy || known == models_.end()) return;
  o.wanted = o.course.verb == verb::unload     ? version{}
             : o.course.verb == verb::rollback ? known->second.before
                                               : known->second.intended;
  o.wanted.pinned = o.course.verb == verb::pin;
}

result<void> book::begin(operation& o) {
  o.old_generation = o.new_generation = generation_of(o.model);
  find_wanted(o);
  o.state = *next(o.course, state::queued, event::passed);
  return write_({record::kind::begun, o, 0, {}});
}

result<void> book::commit(operation& o) {
  entry& e = models_[o.model];
  // A name that is closed keeps its count, so that no number ever means two things.
  const bool counts = o.wanted.served() && o.course.verb != verb::pin && o.course.verb != verb::unpin;
  const std::uint64_t generation = counts ? e.generation + 1 : e.generation;
  if (auto written = write_({record::kind::committed, o, generation, e.base}); !written) return written;
  if (is_other(e.intended, o.wanted)) e.before = e.intended;
  e.intended = o.wanted;
  e.generation = generation;
  e.changed = true;
  e.changed_by = o.id;
  o.new_generation = generation_of(o.model);
  return {};
}

book::changes book::advance(std::uint64_t id, event what, std::string_view reason, std::uint64_t now_ms) {
  changes out;
  const auto found = operations_.find(id);
  if (found == operations_.end()) return out;
  operation& o = found->second;
  if (o.state == state::queued) return out;  // its turn comes by itself
  std::string why(reason);
  if (!next(o.course, o.state, what)) return out;
  if (o.state == state::committing && what == event::passed)
    if (auto done = commit(o); !done) {
      what = event::failed;
      why = done.error().text;
    }
  o.state = *next(o.course, o.state, what);
  if (!why.empty()) o.reason += (o.reason.empty() ? "" : "; ") + why;
  if (is_over(o.state)) finish(o, now_ms);
  out.push_back(o);
  if (!is_over(o.state)) return out;
  entry& e = models_[o.model];
  e.current = 0;
  call_next(e, now_ms, out);
  return out;
}

// Those whose expectation is not met any more are refused, one after another.
void book::call_next(entry& of, std::uint64_t now_ms, changes& out) {
  while (of.current == 0 && !of.queue.empty()) {
    operation& o = operations_.at(of.queue.front());
    of.queue.pop_front();
    auto problem = objection(o);
    if (!problem)
      if (auto begun = begin(o); !begun) problem = std::move(begun.error());
    if (problem) {
      o.state = state::refused;
      o.reason = problem->text;
      o.old_generation = o.new_generation = generation_of(o.model);
      o.ended_ms = now_ms;
    } else {
      of.current = o.id;
    }
    out.push_back(o);
  }
}

// A record of the end that cannot be written costs the history, not the operation: without it a restart says that the server
// ended meanwhile.
void book::finish(operation& o, std::uint64_t now_ms) {
  o.ended_ms = now_ms;
  (void)write_({record::kind::ended, o, 0, {}});
  const auto over = [](const auto& known) { return is_over(known.second.state); };
  auto surplus = std::ranges::count_if(operations_, over);
  for (auto i = operations_.begin();
       surplus > static_cast<std::ptrdiff_t>(kept_history) && i != operations_.end();) {
    if (i->first == o.id || !over(*i)) {
      ++i;
      continue;
    }
    i = operations_.erase(i);
    --surplus;
  }
}

void book::set_module(std::uint64_t id, const std::string& sha256, bool own) {
  const auto found = operations_.find(id);
  if (found == operations_.end()) return;
  found->second.wanted.module_sha256 = sha256;
  found->second.wanted.own_module = own;
}

void book::learn_module(std::string_view model, const std::string& sha256) {
  const auto found = models_.find(model);
  if (found != models_.end() && !found->second.intended.own_module)
    found->second.intended.module_sha256 = sha256;
}

// Only the way out of each state is taken; what has been committed stays where it is, to be carried through.
book::changes book::fail_all(std::string_view reason, std::uint64_t now_ms) {
  changes out;
  for (const operation& o : under_way()) {
    if (o.state == state::queued || is_committed(o.course, o.state)) continue;
    for (auto& changed : advance(o.id, event::failed, reason, now_ms)) out.push_back(std::move(changed));
  }
  return out;
}

// ---- questions --------------------------------------------------------------------------------------------

const operation* book::find(std::uint64_t id) const {
  const auto found = operations_.find(id);
  return found == operations_.end() ? nullptr : &found->second;
}

const operation* book::current(std::string_view model) const {
  const auto found = models_.find(model);
  return found == models_.end() || found->second.current == 0 ? nullptr : find(found->second.current);
}

const version* book::intended_of(std::string_view model) const {
  const auto found = models_.find(model);
  return found == models_.end() || !found->second.intended.served() ? nullptr : &found->second.intended;
}

std::uint64_t book::generation_of(std::string_view model) const {
  const auto found = models_.find(model);
  return found != models_.end() && found->second.intended.served() ? found->second.generation : 0;
}

std::vector<intended> book::served() const {
  std::vector<intended> all;
  for (const auto& [model, e] : models_)
    if (e.intended.served()) all.push_back({model, e.intended, e.generation});
  return all;
}

std::vector<operation> book::under_way() const {
  std::vector<operation> all;
  for (const auto& [id, o] : operations_)
    if (!is_over(o.state)) all.push_back(o);
  return all;
}

std::vector<operation> book::history() const {
  std::vector<operation> all;
  for (const auto& [id, o] : operations_)
    if (is_over(o.state)) all.push_back(o);
  for (operation& o : under_way()) all.push_back(std::move(o));
  return all;
}

std::vector<record> book::digest() const {
  std::vector<record> all;
  for (const auto& [id, o] : operations_) all.push_back({record::kind::begun, o, 0, {}});
  for (const auto& [model, e] : models_) {
    if (!e.changed) continue;
    record r{record::kind::committed, {}, e.generation, e.base};
    r.of.model = model;
    if (e.before.served()) {
      r.of.wanted = e.before;
      all.push_back(r);
    }
    r.of.id = e.changed_by;
    r.of.wanted = e.intended;
    all.push_back(std::move(r));
  }
  for (const auto& [id, o] : operations_)
    if (is_over(o.state)) all.push_back({record::kind::ended, o, 0, {}});
  return all;
}

}  // namespace troupe::deployment
