// Builds the version that an operation wants and compares it with the one that runs, before a client meets it: the module in its cell, the
// quick part of the conformance suite, the two Programs, and both on probe prompts.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "actors/deployment/deployer.hpp"
#include "actors/server/backend_choice.hpp"
#include "kernel/base/result.hpp"
#include "kernel/modules/modules.hpp"

namespace troupe {

// Any thread.
class candidate_maker {
 public:
  // `known` and `store` outlive it. The suite runs on `reference`, a backend's library; probe prompts run as the models do.
  candidate_maker(const modules::registry& known, const modules::store& store,
                  std::filesystem::path reference, std::shared_ptr<const backend_choice> device, bool int8)
      : known_(known),
        store_(store),
        reference_(std::move(reference)),
        device_(std::move(device)),
        int8_(int8) {}

  // Errors: those of prepare_model and of the module store; bad_module: a case of the suite fails; bad_checkpoint: another vocabulary,
  // or logits that are no numbers; conflict: results beyond what `verify` allows.
  result<deployment::staged> make(const deployment::candidate_request& wanted);

 private:
  result<modules::module_ptr> find_module(const deployment::candidate_request& wanted) const;
  result<std::string> judge(const modules::module& module, const std::filesystem::path& checkpoint,
                            const std::string& config);

  const modules::registry& known_;
  const modules::store& store_;
  std::filesystem::path reference_;
  std::shared_ptr<const backend_choice> device_;
  bool int8_;
  std::mutex guard_;
  std::set<std::string> passed_;  // module and configuration
};

// The module of a version that a journal names: installed, or a copy in the store. Error: not_found.
result<modules::module_ptr> staged_module(const modules::registry& known, const modules::store& store,
                                          const std::string& sha256);

}  // namespace troupe
