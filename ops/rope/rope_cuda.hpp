// Rotary positions on a CUDA device; see rope.hpp.
#pragma once

#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

// cosines, sines [T, pairs]; positions [T], frequencies [pairs], all on the device.
void rope_angles_cuda(cudaStream_t stream, device_floats cosines, device_floats sines,
                      const std::int32_t* positions, const float* frequencies, float amplitude);

// y may be x.
void rope_cuda(cudaStream_t stream, device_floats y, device_inputs x, device_inputs cosines,
               device_inputs sines, std::size_t head_dim, bool interleaved);

}  // namespace troupe::ops
