// Which instance serves which name, and which operations are under way: written by the deployer, read by the gateway. It outlives
// both. Any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "actors/deployment/record.hpp"
#include "actors/host/prepared_model.hpp"

namespace troupe::deployment {

// An instance that clients can ask for, under its model's name. Several of one name share its requests.
struct served_model {
  prepared_model_ptr model;   // its id is the instance's
  std::uint32_t workers = 1;  // in its tokenizer pool: "tokenizer/<m>/0" ...
  std::uint64_t generation = 1;
  std::uint32_t share_percent =
      100;  // of the name's new requests, for the first of that name that has less; the rest is the others'
  bool sticky = false;  // the share is one of clients, not of requests
  bool pinned = false;
  std::string resting;  // empty = it takes requests; else why not: "drained", "asleep"
};

class catalogue {
 public:
  // The first one is the default model. Ids of later instances are above all of these.
  explicit catalogue(std::vector<served_model> first = {}) : served_(std::move(first)) {
    for (const served_model& m : served_) next_id_ = std::max(next_id_, m.model->id.value + 1);
  }

  std::vector<served_model> served() const {
    const std::lock_guard lock(guard_);
    return served_;
  }
  // The oldest instance of the name; nothing: nobody serves it.
  std::optional<served_model> find(std::string_view name) const {
    const std::lock_guard lock(guard_);
    const auto found = std::ranges::find(
        served_, name, [](const served_model& m) { return std::string_view(m.model->name); });
    return found == served_.end() ? std::nullopt : std::optional(*found);
  }
  std::vector<operation> under_way() const {
    const std::lock_guard lock(guard_);
    return under_way_;
  }

  model_id take_id() {  // of a new instance; never given twice
    const std::lock_guard lock(guard_);
    return {next_id_++};
  }
  void serve(served_model m) {
    const std::lock_guard lock(guard_);
    served_.push_back(std::move(m));
  }
  template <class Change>
  void change(model_id instance, Change how) {
    const std::lock_guard lock(guard_);
    for (served_model& m : served_)
      if (m.model->id == instance) how(m);
  }

  // What an instance runs, if that is not what it began with any more; no model: it sleeps.
  std::optional<versioned_model> version_of(model_id instance) const {
    const std::lock_guard lock(guard_);
    const auto found = versions_.find(instance.value);
    return found == versions_.end() ? std::nullopt : std::optional(found->second.now);
  }
  void run(model_id instance, versioned_model what) {
    const std::lock_guard lock(guard_);
    versions_[instance.value].now = std::move(what);
  }
  // Of a candidate; never given twice to one instance.
  std::uint32_t take_version(model_id instance) {
    const std::lock_guard lock(guard_);
    const auto [at, is_new] = versions_.try_emplace(instance.value);
    if (is_new)
      for (const served_model& m : served_)
        if (m.model->id == instance) at->second.now.model = m.model;
    return ++at->second.last;
  }
  void forget(model_id instance) {
    const std::lock_guard lock(guard_);
    versions_.erase(instance.value);
  }

  // Instances that are gone but for tokenizers, whose last streams another instance generates.
  void leave(prepared_model_ptr instance) {
    const std::lock_guard lock(guard_);
    leaving_.push_back(std::move(instance));
  }
  void left(model_id instance) {
    const std::lock_guard lock(guard_);
    std::erase_if(leaving_, [&](const prepared_model_ptr& m) { return m->id == instance; });
  }
  std::vector<prepared_model_ptr> leaving() const {
    const std::lock_guard lock(guard_);
    return leaving_;
  }

  void withdraw(model_id instance) {
    const std::lock_guard lock(guard_);
    std::erase_if(served_, [&](const served_model& m) { return m.model->id == instance; });
  }
  void tell(std::vector<operation> under_way) {
    const std::lock_guard lock(guard_);
    under_way_ = std::move(under_way);
  }

 private:
  mutable std::mutex guard_;
  std::vector<served_model> served_;
  std::vector<operation> under_way_;
  std::vector<prepared_model_ptr> leaving_;
  struct versions {
    versioned_model now;
    std::uint32_t last = 0;
  };
  std::map<std::uint32_t, versions> versions_;  // by instance
  std::uint32_t next_id_ = 0;
};
using catalogue_ptr = std::shared_ptr<catalogue>;

}  // namespace troupe::deployment
