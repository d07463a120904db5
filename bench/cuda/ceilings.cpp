#include "bench/cuda/ceilings.hpp"

#include <algorithm>
#include <functional>
#include <vector>

#include "bench/ops/bench_kernels.hpp"
#include "ops/backends/cuda/memory.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::bench {
namespace {

using ops::cuda::device_memory;
using ops::cuda::ok;

constexpr std::size_t probe_bytes = std::size_t{8} << 30;
constexpr std::size_t side = 8192;

// Seconds of one call: median of 9.
result<double> time_of(const std::function<result<void>()>& run) {
  cudaEvent_t begin = nullptr, end = nullptr;
  if (auto made = ok(cudaEventCreate(&begin), "cudaEventCreate"); !made) return fail(made.error());
  if (auto made = ok(cudaEventCreate(&end), "cudaEventCreate"); !made) return fail(made.error());
  std::vector<float> all;
  for (int i = 0; i < 11; ++i) {
    (void)cudaEventRecord(begin);
    if (auto ran = run(); !ran) return fail(ran.error());
    (void)cudaEventRecord(end);
    if (auto ran = ok(cudaEventSynchronize(end), "a probe"); !ran) return fail(ran.error());
    float ms = 0;
    (void)cudaEventElapsedTime(&ms, begin, end);
    if (i >= 2) all.push_back(ms);
  }
  (void)cudaEventDestroy(begin);
  (void)cudaEventDestroy(end);
  std::sort(all.begin(), all.end());
  return all[all.size() / 2] / 1e3;
}

}  // namespace

result<ceilings> measure_ceilings(ops::cuda::gemm& products) {
  cudaDeviceProp device = {};
  if (auto known = ok(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties"); !known)
    return fail(known.error());
  ceilings found{device.name, 0, 0};
  {
    auto data = device_memory::take(probe_bytes, "probe of the bandwidth");
    auto out = device_memory::take(256, "probe of the bandwidth");
    if (!data || !out) return fail(!data ? data.error() : out.error());
    fill_bf16(data->as<std::uint32_t>(), probe_bytes / 4, 7);
    const auto seconds = time_of([&]() -> result<void> {
      read_all(data->as<std::uint32_t>(), probe_bytes, out->as<unsigned>(), device.multiProcessorCount,
               nullptr);
      return ok(cudaGetLastError(), "probe of the bandwidth");
    });
    if (!seconds) return fail(seconds.error());
    found.reads = static_cast<double>(probe_bytes) / *seconds;
  }
  auto a = device_memory::take(side * side * 2, "probe of the rate");
  auto b = device_memory::take(side * side * 2, "probe of the rate");
  auto c = device_memory::take(side * side * 4, "probe of the rate");
  if (!a || !b || !c) return fail(!a ? a.error() : !b ? b.error() : c.error());
  fill_bf16(a->as<std::uint32_t>(), side * side / 2, 7);
  fill_bf16(b->as<std::uint32_t>(), side * side / 2, 8);
  const auto seconds = time_of([&] {
    return products.multiply(nullptr, {c->as<float>(), side, side}, {a->as<__nv_bfloat16>(), side, side},
                             {b->as<void>(), nullptr, side, side});
  });
  if (!seconds) return fail(seconds.error());
  found.operations = 2.0 * side * side * side / *seconds;
  return found;
}

}  // namespace troupe::bench
