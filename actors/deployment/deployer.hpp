// Carries out what operators ask for: drives each operation from state to state (operation.hpp) and tells them what became of it. The
// book does the thinking.
//   hears    admit    from gateway      Operate: answered at its end; ListHistory: at once; FollowEvents: each change, until abandoned
//            abandon  from gateway      the asker is gone; the operation goes on
//            loaded   from a host       the executor has the instance's model, or refuses it
//            peer     from supervisor   gateway, executor, cache_manager
//   tells    changed, vacate            to the gateway: a name opens or closes; its streams are to end
//            LoadModel                  to the executor: the candidate, beside the version that runs
//            SwitchVersion, watch       to the instance's scheduler: switch, probation, how it does
//            adopt                      to the instance's host: what was promoted is the one to load from now on
//            redirect                   to tokenizers: open streams go on with another instance
//            UnloadModel                to executor and cache-manager; of what sleeps the executor keeps the weights
//            outgoing_batch             to the gateway: replies, like a tokenizer's
//   spawns   a stager per operation     a thread that reads files and runs the module's cell; it answers and ends
//   owns     nothing that must survive: book, catalogue and jobs are the server's
//   waits    never, but for the journal's disk
//   restart  what was under way fails: before its commit it is cleared away, after it carried through. Operators who waited are
//            told `unavailable` by the gateway
// deployer.cpp is what operators ask for, deployer_states.cpp what each state of an operation asks for, deployer_moves.cpp how clients get
// from one version to another: within an instance (carry, recompute), or from one instance to a second one (finish, deploy);
// deployer_rest.cpp is sleep and wake.
#pragma once

#include <caf/actor_system.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actors/deployment/answers.hpp"
#include "actors/deployment/book.hpp"
#include "actors/deployment/catalogue.hpp"
#include "actors/types.hpp"

namespace troupe {

namespace deployment {

// How a version is to be replaced; schemas/client.fbs says what the fields mean.
struct change {
  std::string module;         // file; empty = none was named
  std::string module_sha256;  // of a module that was staged before; empty = none was named
  wire::Move move = wire::Move::automatic;
  wire::Verify verify = wire::Verify::off;
  float max_logit_diff = 0;
  std::uint64_t deadline_ms = 0;
  std::uint64_t probation_ms = 0;
  std::uint64_t probation_requests = 0;
  std::uint32_t share_percent = 100;
  bool sticky = false;
};

// A candidate to be built and compared with what runs.
struct candidate_request {
  model_request model;
  change how;
  prepared_model_ptr running;
};

// What the stager has found out.
struct staged {
  std::vector<std::string> report;
  std::uint64_t bytes = 0;   // of weights, as far as files tell
  prepared_model_ptr model;  // null: not asked for
  // Of a candidate, beside the version that runs:
  bool same_front = false;    // clients and tokenizers see no difference: it may run in the same instance
  bool same_layout = false;   // K/V and state mean the same to both
  bool recurrent = false;     // either has recurrent state
  bool same_results = false;  // bit for bit on the probe prompts
  std::uint64_t bytes_shared = 0;  // of weights that both declare alike
};

struct waiter {
  std::uint64_t stream = 0;
  std::uint64_t request = 0;  // the asker's id of it
  bool takes_back = false;    // it is undone because of this one, who gets what was wished
};

// What is known of an operation beside the book.
struct job {
  std::vector<waiter> waiters;  // for its end
  change how;
  prepared_model_ptr model;  // the candidate's, or of what is unloaded
  prepared_model_ptr old;    // what runs while a candidate comes
  staged found;
  bool beside = false;     // the candidate is an instance of its own; else a version in the old one's
  bool recompute = false;  // in the instance
  std::uint32_t old_version = 0, new_version = 0;
  message<wire::ModelLoaded> old_loaded, new_loaded;
  bool probation = false;
  std::uint64_t watched_since_ms = 0;
  std::uint64_t redirect_at_ms =
      0;                  // of an old instance that retires: its streams go on with the new one; 0 = never
  bool asked = false;     // an answer of the scheduler is under way
  bool moved_on = false;  // the streams of what goes run elsewhere: nobody waits for their end
  bool slept = false;     // what wakes had given its weights back
  error_code refused_with = error_code::conflict;  // as long as nothing else is known: its turn came too late
  outcome measured;
};
using jobs = std::map<std::uint64_t, job>;  // by operation

}  // namespace deployment

struct deployer_options {
  // Shared with the server; only the deployer writes to them.
  std::shared_ptr<deployment::book> book;
  std::shared_ptr<deployment::jobs> jobs;
  deployment::catalogue_ptr catalogue;

  // Called on a stager's thread. `stage` looks at files and room, `prepare` makes a model of them.
  std::function<result<deployment::staged>(const model_request&)> stage;
  std::function<result<deployment::staged>(const model_request&)> prepare;
  // Builds a candidate and compares it with what runs.
  std::function<result<deployment::staged>(const deployment::candidate_request&)> prepare_candidate;

  // Starts the actors of an instance; its host will send `loaded`. Stops them, last one first, and calls `gone` on some thread.
  std::function<void(const prepared_model_ptr&)> start_instance;
  std::function<void(const prepared_model_ptr&, std::function<void()> gone)> stop_instance;
  // The same without its tokenizers, whose streams go on elsewhere.
  std::function<void(const prepared_model_ptr&, std::function<void()> gone)> stop_engine;
  // Who runs under an id now; null: nobody.
  std::function<caf::strong_actor_ptr(const std::string&)> find_peer;
  std::uint32_t workers = 1;              // in an instance's tokenizer pool
  std::function<void()> after_operation;  // to compact the journal; may be empty
  bool detached = true;                   // stagers; false: for tests on a deterministic scheduler
};

deployer_actor spawn_deployer(caf::actor_system& system, deployer_options options);

}  // namespace troupe
