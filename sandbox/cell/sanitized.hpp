// Builds with a sanitizer: its runtime is in the cell, too, and makes some walls lower.
#pragma once

namespace troupe::sandbox {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;  // shadow memory: terabytes of address space; own system calls
#else
inline constexpr bool sanitized = false;
#endif

// To be called while files can still be opened: the runtime reads what it will need. Nothing in other builds.
void prepare_sanitizer();

}  // namespace troupe::sandbox
