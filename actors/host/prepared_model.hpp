// Everything about a model that is known before it runs: checkpoint, module, Program, tokenizer. Made on the
// command line's or the host's thread, then shared, immutable, with the model's actors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/tokenizer/chat_template.hpp"
#include "actors/tokenizer/tokenizer.hpp"
#include "kernel/base/ids.hpp"
#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/modules/modules.hpp"
#include "kernel/program/program.hpp"

namespace troupe {

struct prepared_model {
  model_id id;
  std::string name;  // under which clients ask for it
  checkpoint::checkpoint_config checkpoint;
  modules::module_ptr module;
  program::verified_program program;
  text::tokenizer_ptr tokenizer;
  std::optional<text::chat_template> chat;  // none: neither the checkpoint nor the Program brings one
  std::vector<std::int32_t> eos_ids;        // generation_config.json, else config.json
  std::uint32_t context_tokens = 0;         // the model's, or less if the configuration says so
  std::uint32_t vocabulary = 0;             // V of the Program; >= the tokenizer's
  std::uint64_t parameters = 0;
};
using prepared_model_ptr = std::shared_ptr<const prepared_model>;

// What an instance runs: `version` counts what was swapped in it.
struct versioned_model {
  prepared_model_ptr model;
  std::uint32_t version = 0;
};

struct model_request {
  model_id id;
  std::string name;                  // empty = the folder's name
  std::filesystem::path checkpoint;  // folder
  std::uint32_t max_context = 0;     // 0 = the model's
};

// Reads the folder's small files, finds the module for its architecture, builds and verifies the Program.
// Weights are opened by the executor. Errors: those of the parts, with the model's name in front.
result<prepared_model_ptr> prepare_model(const model_request& request, const modules::registry& known);

}  // namespace troupe
