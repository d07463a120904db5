// A native op's CUDA body, ready to be launched. The interface to it is kernel/abi/troupe/module.h.
#pragma once

#include <troupe/module.h>

#include <memory>
#include <span>
#include <string>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/native_ops.hpp"
#include "ops/backends/cuda/step_frame.hpp"
#include "ops/backends/cuda/weight_store.hpp"

namespace troupe::ops::cuda {

class native_launch {
 public:
  // Op `index` of a Program that check_native_ops() accepts. `first_state`: the number of its first state among those of all native
  // ops. Error: unsupported, if the op has no CUDA body.
  static result<std::unique_ptr<native_launch>> make(const program::Program& program, std::uint32_t index,
                                                     const program::native_ops& known,
                                                     const std::vector<checkpoint::bound_weight>& bound,
                                                     weight_store& weights, std::size_t first_state);

  // Of the step that is launched next, or one that is planned. What an op refuses to tell, launch() reports.
  std::size_t workspace(std::size_t rows, std::size_t sequences);
  // Error: internal, with the op and its own words.
  result<void> launch(const step_frame& f, std::size_t rows, bool of_logit_rows,
                      std::span<void* const> inputs, std::span<void* const> outputs);

 private:
  native_launch() = default;

  const troupe_native_op* op_ = nullptr;
  std::string where_;
  std::unique_ptr<program::native_use> use_;
  std::size_t first_state_ = 0;
  std::string refused_;  // why the last workspace was not told
};

}  // namespace troupe::ops::cuda
