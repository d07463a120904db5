// The activation op on a CUDA device; see activation.hpp. y may be x.
#pragma once

#include "ops/activation/activation_kind.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

// factor.data null = none
void activation_cuda(cudaStream_t stream, device_floats y, device_inputs x, device_inputs factor,
                     activation act);

}  // namespace troupe::ops
