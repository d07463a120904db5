// What a server needs so that its models can change while it runs: the book with its journal, and what stagers do.
#pragma once

#include <memory>
#include <vector>

#include "actors/deployment/book.hpp"
#include "actors/deployment/deployer.hpp"
#include "actors/deployment/journal.hpp"
#include "kernel/base/result.hpp"
#include "kernel/config/config.hpp"

namespace troupe {

// The intended state of a server, kept in the folder server.state if there is one. One thread at a time.
class live_models {
 public:
  // Errors: those of deployment::journal::open.
  static result<std::unique_ptr<live_models>> open(const config::configuration& wanted);

  const std::shared_ptr<deployment::book>& book() const { return book_; }

  // What is to be served from the start: the configuration's models in their order as far as no operation has changed them, then
  // those that operations have added.
  std::vector<config::model_section> intended(const config::configuration& wanted) const;

  // Writes the journal anew when it has grown large. An error is logged: the old one is as good.
  void compact();

 private:
  live_models() = default;
  std::unique_ptr<deployment::journal> journal_;  // null: nothing is kept
  std::shared_ptr<deployment::book> book_;
};

// Files that are there and whole, and room for the weights. Errors: those of checkpoint::weights::open and read_config, no_room.
result<deployment::staged> stage_model(const model_request& wanted);

// prepare_model, told as an operation's report.
result<deployment::staged> stage_program(const model_request& wanted, const modules::registry& known);

}  // namespace troupe
