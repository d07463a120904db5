// Changes Programs at random so that many of them stay FlatBuffers: what remains to be found lies behind the structural check.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace troupe::fuzz {

using bytes = std::vector<std::uint8_t>;

// A valid Program to begin with.
bytes seed_program();

// One to four changes: numbers overwritten in place; or, where the bytes are a whole Program, ops, tensors, weights and caches
// exchanged, doubled, removed and renumbered. At most `limit` bytes come out.
bytes mutate(std::span<const std::uint8_t> program, std::mt19937_64& random, std::size_t limit);

// What must hold for any bytes: verify() answers, and whatever it accepts can be counted, outlined and printed. Ends the process if
// it does not. True = they were accepted.
bool check(std::span<const std::uint8_t> program);

}  // namespace troupe::fuzz
