// Who runs under which id, how often it was restarted and why. Written by a supervisor, read by any thread.
#pragma once

#include <caf/actor_addr.hpp>
#include <caf/actor_control_block.hpp>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::supervision {

class roster {
 public:
  struct entry {
    std::string id;
    std::uint32_t restarts = 0;
    std::string last_reason;  // of the last end that led to a restart
  };

  // All children in the order of their list.
  std::vector<entry> entries() const;
  // The actor that runs under the id now; null between an end and the restart, or if there is no such id.
  caf::strong_actor_ptr find(std::string_view id) const;

  // The supervisor that writes here; null before it has begun and after its end.
  caf::strong_actor_ptr supervisor() const;

  // For the supervisor.
  void led_by(const caf::strong_actor_ptr& supervisor);
  void forgotten(const std::string& id);  // it is no child any more
  void started(const std::string& id, const caf::strong_actor_ptr& who);
  void ended(const std::string& id);
  void restarted(const std::string& id, const std::string& reason);

 private:
  struct row {
    entry seen;
    caf::actor_addr who;  // weak: the roster keeps nobody alive
  };
  row& at(const std::string& id);

  mutable std::mutex guard_;
  std::vector<row> rows_;
  caf::actor_addr supervisor_;  // weak
};

}  // namespace troupe::supervision
