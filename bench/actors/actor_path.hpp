// The same requests through the actors of a server: door, gateway, tokenizer worker, scheduler, cache manager, executor.
#pragma once

#include <array>
#include <caf/actor_system.hpp>

#include "actors/step_trace.hpp"
#include "bench/actors/settings.hpp"

namespace troupe::bench {

// When each step was where. Each entry is written by one thread and read behind the end of all.
class recorder {
 public:
  explicit recorder(std::size_t steps) : marks_(steps), leases_(steps), batches_(steps) {
    arrivals_.reserve(steps);
  }
  void mark(hop where, std::uint64_t step) {
    auto& table = table_of(where);
    if (step < table.size()) table[step][static_cast<std::size_t>(where)] = now_us();
  }
  void arrived_at_door(std::size_t replies) {
    if (replies > 0) arrivals_.push_back(now_us());
  }

  std::vector<double> between(hop from, hop to, std::uint64_t first, std::uint64_t last) const;
  std::vector<double> leases() const;
  // From one step to the next.
  std::vector<double> intervals(hop at, std::uint64_t first, std::uint64_t last) const;
  // From the sending of a batch of tokens to the door: the n-th batch is the n-th parcel of replies, all from the middle
  // of the run. Empty if a parcel is missing (a batch whose texts all had to wait for more tokens).
  std::vector<double> to_door() const;

 private:
  using marks = std::array<double, 9>;
  std::vector<marks>& table_of(hop where) {
    if (where == hop::batch_sent) return batches_;
    return where == hop::leases_asked || where == hop::leases_granted ? leases_ : marks_;
  }
  std::vector<marks> marks_, leases_, batches_;
  std::vector<double> arrivals_;
};

struct path_options {
  std::uint32_t plans_in_flight = 2;
  bool with_text = true;  // false: tokens end at an actor that counts them
};

// Runs all requests to their ends.
void run_actor_path(caf::actor_system& system, const settings& s, const prepared_model_ptr& model,
                    const path_options& options, recorder& times);

}  // namespace troupe::bench
