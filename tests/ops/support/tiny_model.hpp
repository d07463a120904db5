// The tiny Program with random weights in a folder of the test's own, and sequences to feed it.
#pragma once

#include <gtest/gtest.h>

#include <random>

#include "ops/device/backend.hpp"
#include "tests/support/safetensors_writer.hpp"
#include "tests/support/temp_folder.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::ops {

class tiny_checkpoint {
 public:
  explicit tiny_checkpoint(const program::ProgramT& program) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.5f);
    std::vector<test::stored_tensor> tensors;
    for (const auto& weight : program.weights) {
      std::size_t count = 1;
      for (const std::uint64_t size : weight->shape) count *= size;
      std::vector<float> values(count);
      for (float& value : values) value = normal(random);
      tensors.push_back(test::bf16_tensor(weight->name, weight->shape, values));
    }
    test::write_safetensors(folder_.path() / "model.safetensors", tensors);
  }
  std::shared_ptr<const checkpoint::weights> open() const {
    auto opened = checkpoint::weights::open(folder_.path());
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().text);
    return opened ? *opened : nullptr;
  }

 private:
  test::temp_folder folder_;
};

// Rows of one sequence to feed in a step.
struct feed {
  std::size_t sequence;
  std::vector<std::int32_t> tokens;
};

// Keeps positions, blocks and state slots (their numbers) of sequences. Logits are asked of every row.
class tiny_sequences {
 public:
  explicit tiny_sequences(model& target) : model_(target) {}

  // Logits [rows, V] of all the feeds' rows, in order.
  std::vector<float> step(const std::vector<feed>& feeds, std::span<probe_request> probes = {}) {
    std::vector<std::int32_t> tokens, positions;
    std::vector<std::uint32_t> starts{0}, logit_rows;
    for (const auto& one : feeds) {
      for (const std::int32_t token : one.tokens) append(one.sequence, token, tokens, positions);
      starts.push_back(static_cast<std::uint32_t>(tokens.size()));
    }
    for (std::uint32_t i = 0; i < tokens.size(); ++i) logit_rows.push_back(i);
    std::vector<std::span<const std::uint32_t>> tables;
    std::vector<std::uint32_t> slots;
    for (const auto& one : feeds) {
      tables.emplace_back(state(one.sequence).blocks);
      slots.push_back(static_cast<std::uint32_t>(one.sequence));
    }
    const auto ran = model_.run({tokens, positions, starts, tables, logit_rows, slots}, probes);
    EXPECT_TRUE(ran) << (ran ? "" : ran.error().text);
    std::vector<float> logits(tokens.size() * test::tiny_program::vocabulary);
    model_.read_logits(logits);
    return logits;
  }

 private:
  struct sequence {
    std::vector<std::uint32_t> blocks;
    std::int32_t length = 0;
  };
  sequence& state(std::size_t i) {
    if (i >= sequences_.size()) sequences_.resize(i + 1);
    return sequences_[i];
  }
  void append(std::size_t i, std::int32_t token, std::vector<std::int32_t>& tokens,
              std::vector<std::int32_t>& positions) {
    auto& one = state(i);
    if (static_cast<std::uint32_t>(one.length) % model_.block_tokens() == 0)
      one.blocks.push_back(next_block_++);
    tokens.push_back(token);
    positions.push_back(one.length++);
  }

  model& model_;
  std::vector<sequence> sequences_;
  std::uint32_t next_block_ = 0;
};

}  // namespace troupe::ops
