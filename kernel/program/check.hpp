// The steps of verify(). Each stops at the first thing that is wrong and throws `refusal`, which verify()
// turns into its error: a checker is a hundred short sentences, and exceptions keep each of them one line.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernel/program/names.hpp"
#include "kernel/program/program.hpp"

namespace troupe::program {

struct refusal {
  std::string text;
};

// refuse("op 12 (attention, model.layers.1)", "expected {}, found {}", ...)
template <class... Args>
[[noreturn]] void refuse(const std::string& where, fmt::format_string<Args...> format, Args&&... args) {
  throw refusal{where + ": " + fmt::format(format, std::forward<Args>(args)...)};
}

// Far above any model, far below where sums of products could overflow 64 bits.
inline constexpr std::uint32_t max_count = 1u << 20;  // weights, tensors, ops, probes
inline constexpr std::uint32_t max_layers = 1u << 16;
inline constexpr std::uint32_t max_dimension = 0x7fffffff;  // vocabulary, context, heads times head size
inline constexpr std::uint64_t max_elements = std::uint64_t{1} << 42;
inline constexpr std::size_t max_name_bytes = 512;
inline constexpr std::uint32_t max_state_dimensions = 4;
// Tables, numbers and letters that a Program may use more than once. Each that is used once takes a byte or more of it, so this
// and its bytes bound the work of verify(), whatever is shared.
inline constexpr std::uint64_t shared_visits = std::uint64_t{1} << 20;
inline constexpr std::uint32_t max_native_operands = 32;  // of each kind; also attributes

// Names go into messages, JSON and files: printable ASCII without blanks, not empty.
void check_name(const std::string& where, const char* field, const flatbuffers::String* name);

void check_visits(const Program& program, std::size_t bytes);  // of the whole Program
void check_facts(const Program& program);
void check_weights(const Program& program);
void check_caches(const Program& program);
void check_tensors(const Program& program);
void check_ops(const Program& program);  // and what they define, use and write
void check_results(const Program& program, const std::vector<bool>& defined);  // logits and probes

}  // namespace troupe::program
