// Is this checkpoint served right? Compares tokenizer, chat template and model with reference outputs, group
// by group; without reference outputs checks what can be checked alone. No actors, no server.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/modules/modules.hpp"
#include "sandbox/conformance/model_runner.hpp"
#include "sandbox/conformance/report.hpp"

namespace troupe::check {

// What --only may name. The first line is what is run with reference outputs, the second without.
inline const std::vector<std::string> golden_groups{"tokenizer", "template", "logits", "chunks",
                                                    "greedy",    "batch",    "states"};
inline const std::vector<std::string> plain_groups{"files", "program", "weights", "run"};

struct options {
  std::filesystem::path model;                   // checkpoint folder
  std::optional<std::filesystem::path> goldens;  // folder of reference outputs; none = check without them
  std::vector<std::string> only;                 // groups; empty = all that apply
  std::vector<std::string> prompts;              // ids of the prompts to run; empty = all
  runner_options runner;
  bool exact = true;  // the device computes in float32; false = it rounds what enters a product to bf16
  progress report = [](std::string_view, std::size_t, std::size_t) {};
};

// Errors: not_found, bad_checkpoint (config.json), invalid_request (an unknown group or prompt, with the
// nearest known one). Whatever else goes wrong is in the report: a group that was asked for and cannot run
// has failed.
result<report> run(const options& o, const modules::registry& known);

}  // namespace troupe::check
