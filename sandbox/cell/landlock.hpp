// Landlock without a single rule: nothing in the file system may be touched, no TCP port, no process outside.
#pragma once

namespace troupe::sandbox {

// The version of Landlock that holds this process from now on; 0 = the kernel has none. Needs no_new_privs.
int enter_landlock();

}  // namespace troupe::sandbox
