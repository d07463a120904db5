// "post_processor" of tokenizer.json: the special tokens around a text.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "actors/tokenizer/json_reader.hpp"

namespace troupe::text {

// Any thread. Called only when special tokens are asked for.
using post_processor = std::function<std::vector<std::int32_t>(std::vector<std::int32_t>)>;

// Throws malformed. Null settings give an empty function.
post_processor make_post_processor(const setting& s);

}  // namespace troupe::text
