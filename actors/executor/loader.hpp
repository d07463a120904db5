// Does what is slow for an executor beside its steps, on a thread of its own: compiles models and destroys them.
//   hears    compile_order   from executor   answers what was compiled | error (those of checkpoint, module, Program, backend)
//            discard_order   from executor   destroys it, then answers; without an asker nobody hears
//   owns     what it is working on
//   waits    for files, module and backend; orders are worked off one after another
//   death    with its executor (they are linked)
#pragma once

#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/typed_actor.hpp>
#include <cstdint>
#include <memory>
#include <vector>

#include "actors/executor/executor.hpp"

namespace troupe {

struct compiled_model {
  std::shared_ptr<ops::backend> backend;  // outlives the model
  std::shared_ptr<ops::model> model;
  std::shared_ptr<const checkpoint::weights> files;
  std::uint32_t vocabulary = 0;
};
using compiled_ptr = std::shared_ptr<compiled_model>;

struct compile_order {
  message<wire::LoadModel> request;
  std::shared_ptr<ops::backend> backend;
  std::shared_ptr<const checkpoint::weights>
      files;  // of another version on the same checkpoint; null: to be opened
};
using compile_order_ptr = std::shared_ptr<const compile_order>;

// The last references to what is to be destroyed, and the backend that it lives in.
struct discard_order {
  std::shared_ptr<ops::backend> backend;
  std::vector<std::shared_ptr<void>> what;
};
using discard_order_ptr = std::shared_ptr<discard_order>;

using loader_actor = caf::typed_actor<caf::replies_to<compile_order_ptr>::with<compiled_ptr>,
                                      caf::replies_to<discard_order_ptr>::with<bool>>;

loader_actor spawn_loader(caf::actor_system& system, const executor_options& options);

}  // namespace troupe

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::compiled_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::compile_order_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::discard_order_ptr)
