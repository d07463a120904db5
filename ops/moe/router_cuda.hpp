// router on a CUDA device; see router.hpp. A row's choice depends on its logits alone.
#pragma once

#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

struct device_router {
  std::size_t top_k = 1;
  bool sigmoid = false;
  bool normalize = false;
  float norm_power = 1;
  float scale = 1;
};

// x [T, E] -> weights [T, k], experts [T, k]. positions [T] on the device: a row with a negative one fills up a captured batch and
// chooses no expert (-1); null = there are none.
void router_cuda(cudaStream_t stream, device_floats weights, device_rows<std::int32_t> experts,
                 device_inputs x, const std::int32_t* positions, const device_router& rule);

}  // namespace troupe::ops
