// Does what is slow for an executor beside its steps, on a thread of its own: compiles models, destroys them, lets them sleep and wakes them.
//   hears    compile_order   from executor   answers what was compiled, or woken if the same sleeps | error (those of checkpoint, module,
//                                            Program, backend; no_room: it sleeps on)
//            rest_order      from executor   answers rest_outcome: it sleeps, or is destroyed where the backend cannot keep its weights
//            discard_order   from executor   destroys it, and what sleeps of the same, then answers; without an asker nobody hears
//   owns     what it is working on, and the models that sleep
//   waits    for files, module and backend; orders are worked off one after another
//   death    with its executor (they are linked)
#pragma once

#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/typed_actor.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/executor/executor.hpp"

namespace troupe {

struct compiled_model {
  std::shared_ptr<ops::backend> backend;  // outlives the model
  std::shared_ptr<ops::model> model;
  std::shared_ptr<const checkpoint::weights> files;
  std::uint32_t vocabulary = 0;
  std::uint64_t woken_bytes = 0;  // of weights that came from a copy in host memory; 0 = it was compiled
};
using compiled_ptr = std::shared_ptr<compiled_model>;

struct compile_order {
  message<wire::LoadModel> request;
  std::shared_ptr<ops::backend> backend;
  std::shared_ptr<const checkpoint::weights>
      files;  // of another version on the same checkpoint; null: to be opened
};
using compile_order_ptr = std::shared_ptr<const compile_order>;

// Versions of a model.
struct versions_of {
  std::uint32_t model = 0;
  std::int64_t version = -1;  // -1 = all

  bool has(std::uint32_t m, std::uint32_t v) const {
    return m == model && (version < 0 || version == static_cast<std::int64_t>(v));
  }
};

// The last references to what is to be destroyed, and the backend that it lives in.
struct discard_order {
  std::shared_ptr<ops::backend> backend;
  std::vector<std::shared_ptr<void>> what;
  std::optional<versions_of> asleep;  // what sleeps of these goes, too
};
using discard_order_ptr = std::shared_ptr<discard_order>;

// The last references to a model that is to sleep until the same request comes again, and to what goes for good.
struct rest_order {
  message<wire::LoadModel> request;
  compiled_ptr compiled;
  std::vector<std::shared_ptr<void>> others;
};
using rest_order_ptr = std::shared_ptr<rest_order>;

struct rest_outcome {
  std::uint64_t freed_bytes = 0;  // of the device
  std::uint64_t kept_bytes = 0;   // in host memory; 0 = it was destroyed
  double ms = 0;
  std::string not_kept;  // why
};
using rest_outcome_ptr = std::shared_ptr<const rest_outcome>;

// Whether one compiled model serves both requests.
bool same_model(const wire::LoadModel& a, const wire::LoadModel& b);

// A discard is answered with the bytes of host memory that copies had.
using loader_actor = caf::typed_actor<caf::replies_to<compile_order_ptr>::with<compiled_ptr>,
                                      caf::replies_to<rest_order_ptr>::with<rest_outcome_ptr>,
                                      caf::replies_to<discard_order_ptr>::with<std::uint64_t>>;

loader_actor spawn_loader(caf::actor_system& system, const executor_options& options);

}  // namespace troupe

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::compiled_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::compile_order_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::rest_order_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::rest_outcome_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::discard_order_ptr)
