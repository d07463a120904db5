// A tensor of the Program in a step.
#pragma once

#include "ops/backends/cuda/step_frame.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::ops::cuda {

struct operand {
  std::uint32_t tensor = 0;
  std::size_t width = 0;
  bool of_logit_rows = false;

  std::size_t rows(const step_frame& f) const { return of_logit_rows ? f.logit_rows : f.tokens; }
  float* data(const step_frame& f) const { return f.arena + f.offsets[tensor]; }
  device_floats out(const step_frame& f) const { return {data(f), rows(f), width}; }
  device_inputs in(const step_frame& f) const { return {data(f), rows(f), width}; }
  device_rows<std::int32_t> integers(const step_frame& f) const {
    return {reinterpret_cast<std::int32_t*>(data(f)), rows(f), width};
  }
  // Each group of columns as a row.
  device_floats out_groups(const step_frame& f, std::size_t group) const {
    return {data(f), rows(f) * (width / group), group};
  }
  device_inputs in_groups(const step_frame& f, std::size_t group) const {
    return {data(f), rows(f) * (width / group), group};
  }
};

}  // namespace troupe::ops::cuda
