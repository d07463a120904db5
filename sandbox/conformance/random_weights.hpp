// Weights that nobody trained, for a Program that shall run all the same.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/program.hpp"

namespace troupe::conformance {

// The same Program, but each weight is read from one tensor of its own name and shape.
result<program::verified_program> with_plain_weights(const program::Program& program);

// Random numbers for each weight of such a Program: matrices in bf16 that keep the size of what goes through them, vectors in f32, norms
// around 1. Written to <folder>/model.safetensors and mapped from there. Error: not_found with the reason.
result<std::shared_ptr<const checkpoint::weights>> random_weights(const program::Program& program,
                                                                  const std::filesystem::path& folder,
                                                                  std::uint64_t seed);

}  // namespace troupe::conformance
