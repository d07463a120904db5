// An op's attributes as names and values: what the printers show and what two ops are compared by.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "troupe/schemas/program_generated.h"

namespace troupe::program {

using attribute_value = std::variant<std::uint64_t, float, double, std::string, std::vector<float>>;

struct attribute {
  const char* name;
  attribute_value value;
  bool of_layer = false;  // differs between layers that are alike otherwise
};

// In the order of the schema; empty for ops without attributes, and for native ops, which have lists of their own.
std::vector<attribute> attributes_of(const Op& op);

// "12", "1e-05", "silu"; a list by its ends and a checksum, so that values of equal text are equal:
// "64 from 1 to 2.2e-07, #1c3a9f04"
std::string text_of(const attribute_value& value);

}  // namespace troupe::program
