// The CUDA device that a backend has, and what all its models share. Its stream belongs to the steps, which one thread launches.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "kernel/base/result.hpp"
#include "ops/backends/cuda/gemm.hpp"
#include "ops/backends/cuda/memory.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::ops::cuda {

struct device {
  std::string name;  // "NVIDIA H100 80GB HBM3, compute capability 9.0"
  device_limits limits;
  cudaStream_t stream = nullptr;
  // Held while a graph is captured from the stream: nobody else may wait for it then, and what is sent to it would become part of the graph.
  std::mutex capturing;
  std::unique_ptr<gemm> products;
  reserved_range pool;  // all cache blocks
  std::uint32_t blocks = 0;
  std::uint64_t block_bytes = 0;

  device() = default;
  device(const device&) = delete;
  device& operator=(const device&) = delete;
  ~device();

  // Waits for all steps on their way. Any thread.
  result<void> wait();

  // The first device. Errors: unsupported (no driver, no device, too old a one: says which), not_found (cuBLASLt), bad_config (the
  // pool does not fit: says what would).
  static result<std::shared_ptr<device>> open(std::uint32_t blocks, std::uint64_t block_bytes);
};

}  // namespace troupe::ops::cuda
