// Carries out what operators ask for: drives each operation from state to state (operation.hpp) and tells them what became of it. The
// book does the thinking.
//   hears    admit    from gateway      Operate: answered at its end; ListHistory: at once; FollowEvents: each change, until abandoned
//            abandon  from gateway      the asker is gone; the operation goes on
//            loaded   from a host       the executor has the instance's model, or refuses it
//            peer     from supervisor   gateway, executor, cache_manager
//   tells    changed, vacate            to the gateway: a name opens or closes; its streams are to end
//            UnloadModel                to executor and cache-manager
//            outgoing_batch             to the gateway: replies, like a tokenizer's
//   spawns   a stager per operation     a thread that reads files and runs the module's cell; it answers and ends
//   owns     nothing that must survive: book, catalogue and jobs are the server's
//   waits    never, but for the journal's disk
//   restart  what was under way fails: before its commit it is cleared away, after it carried through. Operators who waited are
//            told `unavailable` by the gateway
#pragma once

#include <caf/actor_system.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "actors/deployment/answers.hpp"
#include "actors/deployment/book.hpp"
#include "actors/deployment/catalogue.hpp"
#include "actors/types.hpp"

namespace troupe {

namespace deployment {

// What is known of an operation beside the book.
struct job {
  std::uint64_t stream = 0;   // who waits for its end; 0 = nobody
  std::uint64_t request = 0;  // the asker's id of it
  prepared_model_ptr model;   // the candidate's, or of what is unloaded
  std::uint64_t deadline_ms = 0;
  error_code refused_with = error_code::conflict;  // as long as nothing else is known: its turn came too late
  outcome measured;
};
using jobs = std::map<std::uint64_t, job>;  // by operation

// What the stager has found out.
struct staged {
  std::vector<std::string> report;
  std::uint64_t bytes = 0;   // of weights, as far as files tell
  prepared_model_ptr model;  // null: not asked for
};

}  // namespace deployment

struct deployer_options {
  // Shared with the server; only the deployer writes to them.
  std::shared_ptr<deployment::book> book;
  std::shared_ptr<deployment::jobs> jobs;
  deployment::catalogue_ptr catalogue;

  // Called on a stager's thread. `stage` looks at files and room, `prepare` makes a model of them.
  std::function<result<deployment::staged>(const model_request&)> stage;
  std::function<result<deployment::staged>(const model_request&)> prepare;

  // Starts the actors of an instance; its host will send `loaded`. Stops them, last one first, and calls `gone` on some thread.
  std::function<void(const prepared_model_ptr&)> start_instance;
  std::function<void(const prepared_model_ptr&, std::function<void()> gone)> stop_instance;
  std::uint32_t workers = 1;              // in an instance's tokenizer pool
  std::function<void()> after_operation;  // to compact the journal; may be empty
  bool detached = true;                   // stagers; false: for tests on a deterministic scheduler
};

deployer_actor spawn_deployer(caf::actor_system& system, deployer_options options);

}  // namespace troupe
