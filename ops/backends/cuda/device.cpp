#include "ops/backends/cuda/device.hpp"

#include "kernel/base/text.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {

device::~device() {
  if (stream != nullptr) {
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
}

result<void> device::wait() {
  const std::lock_guard lock(capturing);
  return ok(cudaStreamSynchronize(stream), "a step");
}

result<std::shared_ptr<device>> device::open(std::uint32_t blocks, std::uint64_t block_bytes) {
  int count = 0;
  if (const auto status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0) {
    (void)cudaGetLastError();
    return fail(error_code::unsupported, "no CUDA device: {}",
                status == cudaSuccess ? "the driver knows none" : cudaGetErrorString(status));
  }
  auto made = std::make_shared<device>();
  cudaDeviceProp found = {};
  if (auto done = ok(cudaGetDeviceProperties(&found, 0), "cudaGetDeviceProperties"); !done)
    return fail(std::move(done.error()));
  made->name = fmt::format("{}, compute capability {}.{}", found.name, found.major, found.minor);
  if (found.major < 8)
    return fail(error_code::unsupported, "{}: the cuda backend needs compute capability 8.0 or later",
                made->name);
  if (auto done = ok(cudaSetDevice(0), "cudaSetDevice"); !done) return fail(std::move(done.error()));
  made->limits = {found.multiProcessorCount, found.sharedMemPerBlockOptin};
  if (auto done = ok(cudaStreamCreateWithFlags(&made->stream, cudaStreamNonBlocking), "cudaStreamCreate");
      !done)
    return fail(std::move(done.error()));
  auto products = gemm::open();
  if (!products) return fail(std::move(products.error()));
  made->products = std::move(*products);
  if (block_bytes != 0 && blocks > (~std::uint64_t{0} / 2) / block_bytes)
    return fail(error_code::bad_config, "cache of {} blocks of {} bytes: more than this device can address",
                blocks, block_bytes);
  made->blocks = blocks;
  made->block_bytes = block_bytes;
  const std::uint64_t wanted = blocks * block_bytes;
  auto pool = reserved_range::take(wanted, "cache.memory");
  if (!pool) return fail(std::move(pool.error()));
  made->pool = std::move(*pool);
  return made;
}

}  // namespace troupe::ops::cuda
