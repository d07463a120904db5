// A backend that computes nothing, to measure and test what stands around the ops: it reads no weights, keeps
// no keys and values, and its "tokens" say nothing about any model. Never loaded by a server.
//
// run() returns at once. sample() answers the id after the sequence's last token, round the vocabulary,
// passing over banned ids; log-probabilities are 0. The result depends on the sequence's history alone.
// Logits are zeros.
#pragma once

#include <cstdint>
#include <memory>

#include "ops/device/backend.hpp"

namespace troupe::ops {

struct null_options {
  std::uint32_t block_tokens = 16;
};

// The backend's load() takes any Program and no files; run() refuses probes (unsupported).
std::unique_ptr<backend> open_null_backend(const null_options& options = {});

}  // namespace troupe::ops
