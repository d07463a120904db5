// Runs a Program on a backend directly, without actors: a few sequences, each with its own row of cache
// blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/native_ops.hpp"
#include "kernel/program/program.hpp"
#include "ops/device/backend.hpp"

namespace troupe::check {

struct runner_options {
  std::filesystem::path library;                    // of the backend
  std::uint32_t threads = 0;                        // 0 = all cores
  bool reference_ops = false;                       // plain loops instead of the fast versions
  bool int8 = false;                                // weights as int8 where the Program allows it
  std::uint64_t cache_tokens = 0;                   // positions that all sequences together may hold
  program::native_ops native_ops;                   // of the module that built the Program
  std::function<void(std::string_view line)> tell;  // what the backend says while loading; may be empty
};

// One thread.
class model_runner {
 public:
  // Errors: those of the backend.
  static result<std::unique_ptr<model_runner>> open(const program::verified_program& program,
                                                    std::shared_ptr<const checkpoint::weights> weights,
                                                    const runner_options& options);

  static constexpr std::uint32_t max_sequences = 64;

  // Part of a step: the next tokens of one sequence.
  struct piece {
    std::size_t sequence = 0;  // below max_sequences; a new one starts at position 0
    std::span<const std::int32_t> tokens;
    std::vector<std::uint32_t> wanted;  // rows of `tokens` whose logits are wanted, ascending
  };
  // One step. Logit rows follow in the order of the pieces.
  result<void> run(std::span<const piece> pieces, std::span<ops::probe_request> probes = {});

  // The same for one sequence and its last token, in steps of at most `chunk` tokens; 0 = one step.
  result<void> prefill(std::size_t sequence, std::span<const std::int32_t> tokens, std::size_t chunk = 0);

  // Logits of the last step [R, V].
  std::vector<float> logits(std::size_t rows);
  // Most likely token behind each of the first `rows` logit rows of the last step.
  std::vector<std::int32_t> greedy(std::size_t rows);
  // Log-probability of tokens[i] behind logit row i of the last step.
  std::vector<float> score(std::span<const std::int32_t> tokens);

  // Forgets all sequences.
  void reset();

  std::size_t vocabulary() const { return vocabulary_; }
  std::string device() const;

 private:
  struct sequence_state {
    std::size_t length = 0;
    std::vector<std::uint32_t> blocks;
  };
  model_runner() = default;
  result<void> grow(sequence_state& sequence, std::size_t tokens);

  std::unique_ptr<ops::backend> backend_;
  std::unique_ptr<ops::model> model_;  // destroyed before its backend
  std::vector<sequence_state> sequences_;
  std::uint32_t next_block_ = 0;
  std::uint32_t blocks_ = 0;
  std::size_t vocabulary_ = 0;
};

}  // namespace troupe::check
