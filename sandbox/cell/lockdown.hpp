// What the cell gives up before it opens a module. One thread, in this order:
//
//   limit_resources   memory, processor time, files, processes: setrlimit; a low priority
//   leave_everything  as root: become nobody; no_new_privs; then, as far as the kernel allows it: own user, network, ipc and uts
//                     namespaces; Landlock without a rule, else an own mount namespace with an empty root; no capability;
//                     death with the parent
//   install_filter    seccomp, default deny: the only wall that must stand
#pragma once

#include <cstdint>
#include <string>

namespace troupe::sandbox {

struct cell_arguments {
  std::string library;  // what the loader calls the module: the only path that can be "opened"
  std::uint64_t memory_bytes = 0;
  std::uint64_t cpu_seconds = 0;
};

// Each returns what a person should know when it cannot be done; empty = done.
std::string limit_resources(const cell_arguments& arguments);
std::string install_filter(const cell_arguments& arguments);

// Never fails: says what stands in the end. "own namespaces: user, network, ipc, uts; Landlock 7; ..."
std::string leave_everything();

}  // namespace troupe::sandbox
