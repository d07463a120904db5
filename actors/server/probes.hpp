// Two Programs on the same prompts, beside the server's steps.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>

#include "actors/host/prepared_model.hpp"
#include "kernel/base/result.hpp"

namespace troupe {

struct probe_outcome {
  std::size_t logit_rows = 0;
  double largest_difference = 0;  // of two logits for the same token at the same place
  bool same_bits = true;
  struct token {
    std::size_t prompt = 0, position = 0;
    std::int32_t before = -1, after = -1;
  };
  std::optional<token> first_other_token;  // the most likely ones
};

struct probe_device {
  std::filesystem::path library;  // of the backend
  bool int8 = false;
};

// One thread, a backend of its own. Errors: those of loading; bad_checkpoint: a logit of the candidate is no number.
result<probe_outcome> run_probes(const prepared_model& before, const prepared_model& after,
                                 const probe_device& device);

}  // namespace troupe
