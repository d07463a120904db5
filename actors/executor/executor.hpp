// Owns the backend of one device, the models compiled for it and what their sequences need between steps. It knows
// neither tenants nor text, and chooses nothing: it runs the plans that it gets, in the order in which they come.
//   hears    LoadModel  from host        answers ModelLoaded | error (not_found, bad_checkpoint, bad_program, bad_module,
//                                        unsupported, bad_config, no_room); what is loaded already is answered at once. Steps go
//                                        on meanwhile: its loader compiles
//                       and deployer      of several versions of a model each plan names the one that runs it
//            UnloadModel from deployer    answers ModelUnloaded when all is destroyed, or sleeps; a load under way is answered unavailable
//            StepPlan   from scheduler   sends StepResult to the plan's sender. No answer: unknown model, plan for
//                                        another pool
//            peer       from supervisor  ignored: it answers whoever asks
//   owns     a loader (loader.hpp) for what is slow, which has the models that sleep, too
//   waits    in the backend; therefore it has its own thread
//   ends     with the backend's error if a step fails: the K/V of all sequences are then in doubt
//   restart  with an empty pool under a new number (ModelLoaded.pool), without models, asleep or awake: the hosts load them again
#pragma once

#include <caf/actor_system.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "actors/step_trace.hpp"
#include "actors/types.hpp"
#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/modules/modules.hpp"
#include "ops/device/backend.hpp"

namespace troupe {

struct executor_options {
  ops::backend_options backend;
  // Opens the device at the first LoadModel. Required.
  std::function<result<std::shared_ptr<ops::backend>>(const ops::backend_options&)> open_backend;
  // Opens a checkpoint's weights; empty = checkpoint::weights::open.
  std::function<result<std::shared_ptr<const checkpoint::weights>>(const std::filesystem::path&)>
      open_weights;
  // Opens the staged copy of a module whose native ops a Program uses; empty = modules::open_native_ops. Whether the
  // operator trusts it has been asked before.
  std::function<result<program::native_ops>(const std::filesystem::path&)> open_native_ops;
  std::uint32_t max_sequences = 64;  // of a scheduler's batch: so many may have recurrent state
  std::uint32_t step_tokens = 512;   // of a step, at most
  bool int8 = false;                 // weights that may be quantized, on a device that can
  bool show_progress = false;        // of loading, on stderr
  bool detached = true;              // false: for tests on a deterministic scheduler
  step_trace trace;
};

executor_actor spawn_executor(caf::actor_system& system, executor_options options);

}  // namespace troupe
