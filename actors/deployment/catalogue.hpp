// Which instance serves which name, and which operations are under way: written by the deployer, read by the gateway. It outlives
// both. Any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "actors/deployment/record.hpp"
#include "actors/host/prepared_model.hpp"

namespace troupe::deployment {

// An instance that clients can ask for, under its model's name.
struct served_model {
  prepared_model_ptr model;   // its id is the instance's
  std::uint32_t workers = 1;  // in its tokenizer pool: "tokenizer/<m>/0" ...
  std::uint64_t generation = 1;
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
  // Null: nobody serves the name.
  prepared_model_ptr find(std::string_view name) const {
    const std::lock_guard lock(guard_);
    const auto found = std::ranges::find(
        served_, name, [](const served_model& m) { return std::string_view(m.model->name); });
    return found == served_.end() ? nullptr : found->model;
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
  std::uint32_t next_id_ = 0;
};
using catalogue_ptr = std::shared_ptr<catalogue>;

}  // namespace troupe::deployment
