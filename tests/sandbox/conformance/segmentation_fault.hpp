// How a child that touched what is not there ends; a sanitizer's runtime catches the signal and has words of its own.
#pragma once

#include <gmock/gmock.h>

#include <string>

#include "sandbox/cell/sanitized.hpp"

namespace troupe::conformance {

inline ::testing::Matcher<const std::string&> ends_with_a_segmentation_fault() {
  using ::testing::HasSubstr;
  if (!sandbox::sanitized()) return HasSubstr("crashed: Segmentation fault (SIGSEGV)");
  return ::testing::AnyOf(HasSubstr("AddressSanitizer: SEGV"), HasSubstr("ended its process with code 66"));
}

}  // namespace troupe::conformance
