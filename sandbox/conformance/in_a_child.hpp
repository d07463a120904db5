// Work that may crash, hang or use up the memory, in a child of this process.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

namespace troupe::conformance {

// Between two signs of life.
struct child_limits {
  std::chrono::milliseconds wall;
  std::chrono::seconds cpu;  // of all threads of the child together
};

struct child_answer {
  std::string text;  // what the work returned
  std::string
      end;  // how it ended otherwise: "crashed: Segmentation fault (SIGSEGV)", "timed out: ..."; empty = it returned
  std::string last;  // the last thing that it began
};

// The sign of life: what begins now; empty = it goes on with the same.
using sign_of_life = std::function<void(std::string_view)>;

// Forks: the calling process should have one thread. `heard` is called here for each sign of life. Exceptions of the work
// end in child_answer::end. The child dies with the calling thread, and what it has started, but for what has left its process
// group, with the child.
child_answer in_a_child(
    const std::function<std::string(const sign_of_life&)>& work, const child_limits& limits,
    const std::function<void()>& heard = [] {});

}  // namespace troupe::conformance
