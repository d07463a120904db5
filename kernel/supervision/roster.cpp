#include "kernel/supervision/roster.hpp"

#include <algorithm>
#include <caf/actor_cast.hpp>

namespace troupe::supervision {

roster::row& roster::at(const std::string& id) {
  const auto found = std::find_if(rows_.begin(), rows_.end(), [&](const row& r) { return r.seen.id == id; });
  if (found != rows_.end()) return *found;
  rows_.push_back({{id, 0, {}}, {}});
  return rows_.back();
}

std::vector<roster::entry> roster::entries() const {
  const std::lock_guard lock(guard_);
  std::vector<entry> all;
  for (const row& r : rows_) all.push_back(r.seen);
  return all;
}

caf::strong_actor_ptr roster::find(std::string_view id) const {
  const std::lock_guard lock(guard_);
  for (const row& r : rows_)
    if (r.seen.id == id) return caf::actor_cast<caf::strong_actor_ptr>(r.who);
  return nullptr;
}

caf::strong_actor_ptr roster::supervisor() const {
  const std::lock_guard lock(guard_);
  return caf::actor_cast<caf::strong_actor_ptr>(supervisor_);
}

void roster::led_by(const caf::strong_actor_ptr& supervisor) {
  const std::lock_guard lock(guard_);
  supervisor_ = caf::actor_cast<caf::actor_addr>(supervisor);
}

void roster::forgotten(const std::string& id) {
  const std::lock_guard lock(guard_);
  std::erase_if(rows_, [&](const row& r) { return r.seen.id == id; });
}

void roster::started(const std::string& id, const caf::strong_actor_ptr& who) {
  const std::lock_guard lock(guard_);
  at(id).who = caf::actor_cast<caf::actor_addr>(who);
}

void roster::ended(const std::string& id) {
  const std::lock_guard lock(guard_);
  at(id).who = {};
}

void roster::restarted(const std::string& id, const std::string& reason) {
  const std::lock_guard lock(guard_);
  row& r = at(id);
  ++r.seen.restarts;
  r.seen.last_reason = reason;
}

}  // namespace troupe::supervision
