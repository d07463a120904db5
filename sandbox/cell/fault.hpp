// Signal handlers of the cell: they tell the parent what went wrong, in which function of the module, and end the process by
// the same signal. They also stand in for the one "open" that the loader needs: see fault.cpp.
#pragma once

#include <string>

namespace troupe::sandbox {

// To be called before the filter stands. `library`: as in cell_arguments. Empty = done.
std::string watch_faults(const std::string& library);

}  // namespace troupe::sandbox
