// Work that should not take processors from what serves.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

namespace troupe {

// The calling thread, and what it starts from here on, runs where others leave time: of a processor that is wanted by a thread of the
// server it gets about a tenth. Where the system refuses, nothing changes.
inline void run_in_background() {
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 10);
}

}  // namespace troupe
