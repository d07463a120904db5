// A sanitizer's runtime in the process: Troupe was built with one, or a module was built with the address sanitizer and its runtime was
// preloaded. Some walls of the cell are lower then.
#pragma once

#include <string>
#include <vector>

namespace troupe::sandbox {

// True = shadow memory, that is terabytes of address space, and system calls of its own. Any thread, signal handlers too.
bool sanitized();

// What a child must find in its environment to have a runtime that was preloaded here: NAME=value. Empty without one.
std::vector<std::string> sanitizer_environment();

// Where the address sanitizer is in the process: hear() is called with the text of a report before the runtime ends the process.
void on_sanitizer_report(void (*hear)(const char* report));

// To be called while files can still be opened: the runtime reads what it will need. Nothing without one.
void prepare_sanitizer();

}  // namespace troupe::sandbox
